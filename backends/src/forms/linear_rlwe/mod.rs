//! The offline phase of [`Inst::Linear`](crate::inst::Inst::Linear) from ring-LWE: masks that are ciphertexts already.
//!
//! It makes what [`linear_offline`](super::linear_offline) makes, shares of `W R` for a uniform mask `R` of P1, for about `L / 8`
//! bytes per element of the mask and 3 bits per result (`L` some 70 bits) instead of 20 bytes per weight and row. Rounds: 2, for all
//! matrices of a session together.
//!
//! In `Z_q[X] / (X^n + 1)`, with `a_i` and `p` public and uniform ([`Public`]), all errors `e` centred binomial and `s`, `u_j` ternary:
//!
//! | who | what |
//! |---|---|
//! | P0, per polynomial of weights | `A_j`, the top `w + 13` bits of `sum_i w_ij a_i + p u_j + e` |
//! | P1, per block | the key `k = p s + e` |
//! | P1, per block and channel | `T = a_i s + e`; **`R = -floor(2^w T / q)`**; sends `b_i`, the top `L` bits of what is below that floor |
//! | P0, per block and polynomial | `B = sum_i w_ij b_i + k u_j + f`, `f` the flood; **its share is the top `w` bits**; sends the next 3 bits, `z` |
//! | P1, per result | **`round((2^10 z + 2^9 - A_j s) / 2^13)`** |
//!
//! Correct: `sum_i w_ij b_i = A_j s - p u_j s + (q / 2^w) sum_i w_ij R_i + errors`, `k u_j` takes off the second term, and P1 the first one; what
//! is left beside the wanted sum is less than half a unit of `q / 2^w`, whatever was drawn (`shape`, `error_bound`).
//!
//! Secure: to P0, `(a_i, b_i, p, k)` are ring-LWE samples of a secret that lives for one block, and given `b_i` the mask is uniform. To P1,
//! `A_j` is uniform by ring-LWE (of `u_j`), and `z` follows from it, its own secrets and `f`, up to a statistical distance of
//! 2^-40 over 2^36 values, which the caller counts. **A client that does not follow the protocol can read weights** by sending what is no ciphertext:
//! up to two bits of a weighted sum per value. `docs/linear.md` derives all of this.
//!
//! **Kept keys.** `A_j` does not depend on blocks, so that one set of them, with its `u_j` and public polynomials, may serve several sessions
//! with the same matrices, weights and client: [`Keys`]. Secrets `s`, their keys `k`, errors and floods are fresh in every session
//! all the same, and a block is answered once.

mod client;
mod noise;
mod server;
mod set;
mod shape;
#[cfg(test)]
mod tests;

pub use set::Set;
pub use shape::{Cost, Form, LOG_DISTANCE, LOG_VALUES, Task, choose, forms, key_bytes};

use super::LinearShare;
use crate::{Error, Party, transport::Channel, vector::Vector};
use noise::Noise;
use set::Poly;
use shape::{Shape, wide_len, words};
use sirnn_kernels::pack::{pack, packed_len, unpack};

/// What the public polynomials of a session are drawn from: a hash of both parties' nonces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Public([u8; 32]);

impl Public {
    /// From both parties' nonces.
    pub fn new(server: &[u8; 16], client: &[u8; 16]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("sirnn 2026-11 public polynomials of linear");
        hasher.update(server).update(client);
        Self(*hasher.finalize().as_bytes())
    }

    /// The uniform polynomial, as a transform, for a set and a number of matrix and channel.
    fn uniform(&self, set: Set, matrix: u64, channel: u64) -> Poly {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&[set as u8]).update(&matrix.to_le_bytes()).update(&channel.to_le_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        set.ring().uniform(u128::from_le_bytes(key))
    }

    /// `a` of a channel of a matrix.
    fn inputs(&self, set: Set, matrix: usize, channel: usize) -> Poly {
        self.uniform(set, matrix as u64, channel as u64)
    }

    /// `p`.
    fn keys(&self, set: Set) -> Poly {
        self.uniform(set, u64::MAX, 0)
    }
}

/// Numbers of some width on the wire: a section for every 64 bits of them.
struct Wide {
    bits: u32,
    words: Vec<Vec<u64>>,
}

impl Wide {
    fn new(bits: u32, n: usize) -> Self {
        Self { bits, words: words(bits).map(|_| Vec::with_capacity(n)).collect() }
    }

    #[inline(always)]
    fn push(&mut self, x: [u64; 3]) {
        for ((words, x), bits) in self.words.iter_mut().zip(x).zip(words(self.bits)) {
            words.push(x & (u64::MAX >> (64 - bits)));
        }
    }

    fn len(&self) -> usize {
        wide_len(self.words.first().map_or(0, Vec::len), self.bits)
    }

    fn pack(&self, mut out: &mut [u8]) {
        for (x, bits) in self.words.iter().zip(words(self.bits)) {
            let (section, rest) = out.split_at_mut(packed_len(x.len(), bits));
            pack(bits, x, section);
            out = rest;
        }
    }

    fn unpack(bits: u32, n: usize, mut bytes: &[u8]) -> Self {
        let section = |bits| {
            let (section, rest) = bytes.split_at(packed_len(n, bits));
            bytes = rest;
            let mut x = vec![0u64; n];
            unpack(bits, section, &mut x);
            x
        };
        Self { bits, words: words(bits).map(section).collect() }
    }

    #[inline(always)]
    fn get(&self, at: usize) -> [u64; 3] {
        std::array::from_fn(|i| self.words.get(i).map_or(0, |x| x[at]))
    }
}

/// Cost of a task's form; the clients' keys are apart.
///
/// # Panics
/// If the task has no such form.
pub fn cost(task: &Task, form: Form) -> Cost {
    shape(task, form).cost()
}

/// Bytes of the clients' keys of a session, to P0.
pub fn session_key_bytes(tasks: impl Iterator<Item = (Task, Form)>) -> u64 {
    let shapes: Vec<Shape> = tasks.map(|(task, form)| shape(&task, form)).collect();
    shape::blocks(shapes.iter()).into_iter().map(|(set, blocks)| blocks as u64 * key_bytes(set)).sum()
}

/// Bytes of memory that making the products of a session takes at its peak, by party, beside their results: from above, where
/// it grows with the matrices.
pub fn memory(tasks: impl Iterator<Item = (Task, Form)>) -> [u64; 2] {
    let (mut server, mut client) = (0, 0);
    for (task, form) in tasks {
        let shape = shape(&task, form);
        let [zero, one] = shape.memory();
        server = zero.max(server);
        // What a client has sent may wait for the server to read it; what it received waits for its turn.
        client += one + shape.cost().to_p0 + shape.cost().keys;
    }
    [server, client]
}

fn shape(task: &Task, form: Form) -> Shape {
    let shape = Shape::new(task.op, task.weight_bits, task.width, task.n, form).expect("a form of this matrix");
    assert!(shape.error_bound() < 0.5, "a form whose results are exact");
    shape
}

/// The server's keys `A_j` of all matrices of a session, with what belongs to them at a party: P0's weights in the form that products need and the
/// seeds of `u_j`; what P1 received. For further sessions with the same peer, tasks and weights.
pub struct Keys {
    public: Public,
    /// By matrix; P0's.
    weights: Vec<server::Weights>,
    /// By matrix; P1's.
    received: Vec<client::ServerKeys>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("public", &self.public).finish_non_exhaustive()
    }
}

/// Bytes of memory that [`Keys`] take while they are kept, by party.
pub fn kept_memory(tasks: impl Iterator<Item = (Task, Form)>) -> [u64; 2] {
    tasks.map(|(task, form)| shape(&task, form).kept()).fold([0, 0], |sum, kept| [0, 1].map(|p| sum[p] + kept[p]))
}

/// Makes the products of all matrices of a session. P0 gives the weights of each; both give the same tasks. Without `keys`, new ones are
/// made, with public polynomials from `public`; in the end `keys` are those of this session. Kept ones have to be from a session with this
/// peer, these tasks and these weights, at both parties or at none.
///
/// # Errors
/// Those of the channel, or a peer that sends what is out of range.
pub fn linear_rlwe_offline(
    party: Party,
    public: &Public,
    tasks: &[(Task, Form)],
    weights: &[Option<&Vector>],
    keys: &mut Option<Keys>,
    channel: &mut dyn Channel,
) -> Result<Vec<LinearShare>, Error> {
    run(party, public, tasks, weights, keys, &mut Noise::fresh()?, channel)
}

fn run(
    party: Party,
    public: &Public,
    tasks: &[(Task, Form)],
    weights: &[Option<&Vector>],
    keys: &mut Option<Keys>,
    noise: &mut Noise,
    channel: &mut dyn Channel,
) -> Result<Vec<LinearShare>, Error> {
    let shapes: Vec<Shape> = tasks.iter().map(|(task, form)| shape(task, *form)).collect();
    let blocks = shape::blocks(shapes.iter());
    let kept = keys.take();
    let (new, public) = (kept.is_none(), kept.as_ref().map_or(*public, |keys| keys.public));
    let mut all = kept.unwrap_or(Keys { public, weights: Vec::new(), received: Vec::new() });
    let mut shares = Vec::new();
    match party {
        Party::P0 => {
            if new {
                for (index, (shape, weights)) in shapes.iter().zip(weights).enumerate() {
                    let weights = server::Weights::new(shape, weights.expect("P0 has the weights"), noise);
                    server::send_keys(&public, index, shape, &weights, noise, channel)?;
                    all.weights.push(weights);
                }
            }
            // Not flushed: the client may be sending too, and receiving sends what is queued.
            let client = server::receive_keys(&blocks, channel)?;
            for (shape, weights) in shapes.iter().zip(&all.weights) {
                let share = server::answer(shape, weights, &client, noise, channel)?;
                shares.push(LinearShare { mask: None, share });
            }
        }
        Party::P1 => {
            let secrets = client::keys(&public, &blocks, noise, channel)?;
            let mut sent = Vec::new();
            for (index, shape) in shapes.iter().enumerate() {
                sent.push(client::send(&public, index, shape, &secrets, noise, channel)?);
            }
            if new {
                for shape in &shapes {
                    all.received.push(client::ServerKeys::receive(shape, channel)?);
                }
            }
            for ((shape, sent), received) in shapes.iter().zip(sent).zip(&all.received) {
                shares.push(client::finish(shape, sent, received, &secrets, channel)?);
            }
        }
    }
    channel.flush()?;
    // Only what served to the end is kept.
    *keys = Some(all);
    Ok(shares)
}
