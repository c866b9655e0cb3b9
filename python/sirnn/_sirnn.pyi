from typing import Any

Packed = tuple[str | None, str, bytes, list[int], list[int] | None]
Raw = tuple[list[dict[str, Any]], str | None]
Parts = tuple[str, int, list[dict[str, Any]], list[dict[str, Any]], str]
IdentityParts = tuple[str, str, list[str], str | None, str | None]
Limits = tuple[int | None, int | None, float | None, int | None]

def create_identity(name: str, folder: str) -> str: ...

class Plans:
    def __new__(
        cls, goal: str, link: str, ot: str | None, fuse: bool | None, lanes: int | None, linear: str
    ) -> Plans: ...

class Model:
    def __new__(cls, folder: str) -> Model: ...
    def network(self) -> Parts: ...
    def evaluate(self, arrays: list[Packed]) -> Raw: ...
    def run(self, arrays: list[Packed], plans: Plans) -> Raw: ...
    def plan(self, items: int, steps: int | None, plans: Plans) -> dict[str, Any]: ...

class Client:
    def __new__(
        cls,
        addresses: list[str],
        parts: IdentityParts | None,
        plaintext: bool,
        limits: Limits,
        expect: str | None,
        batch: int | None,
        linear: str,
        retry: float,
    ) -> Client: ...
    def network(self) -> Parts: ...
    def predict(self, arrays: list[Packed], progress: Any) -> Raw: ...

class Server:
    def __new__(
        cls,
        model: Model,
        listen: str,
        parts: IdentityParts | None,
        plaintext: bool,
        limits: Limits,
        plans: Plans,
        counts: tuple[int | None, int | None, int | None, int | None],
        grace: float,
    ) -> Server: ...
    def address(self) -> str: ...
    def load(self) -> tuple[int, int]: ...
    def metrics(self) -> str: ...
    def stop(self) -> None: ...
    def wait(self) -> None: ...
