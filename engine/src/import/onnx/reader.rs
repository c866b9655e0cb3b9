//! From a file's bytes to a [`Model`].

use super::{Attribute, Dim, Graph, Input, Kind, MAX_FILE, MAX_NODES, Model, Node, proto};
use crate::import::ImportError;
use crate::import::tensor::{Data, MAX_ELEMENTS, Tensor};
use half::{bf16, f16};
use prost::Message;
use prost::bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Depth to which the file's own functions may call each other.
const MAX_CALLS: usize = 16;

impl Model {
    /// Reads a model file and the weights beside it.
    ///
    /// # Errors
    /// Says in one line what is wrong with the file.
    pub fn load(path: &Path) -> Result<Self, ImportError> {
        let fail = |what: String| ImportError::file(path, what);
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(|e| fail(e.to_string()))?;
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|e| fail(e.to_string()))?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(fail(format!("it has more than {} MiB", MAX_FILE >> 20)));
        }
        if let Some(what) = other_format(&bytes) {
            return Err(fail(what.into()));
        }
        Self::read(bytes, path.parent().unwrap_or(Path::new(""))).map_err(fail)
    }

    /// Reads the content of a model file; `folder` is where its weights would be if they are outside.
    ///
    /// # Errors
    /// Says in one line what is wrong.
    pub fn read(bytes: Vec<u8>, folder: &Path) -> Result<Self, String> {
        let model = proto::Model::decode(Bytes::from(bytes)).map_err(|e| format!("this is no ONNX file: {e}"))?;
        let graph = model.graph.ok_or("this is no ONNX file: it has no graph")?;
        let standard = model.opset_import.iter().find(|o| is_standard(&o.domain));
        let opset = standard.ok_or("it does not say which version of ONNX's operators it uses")?.version;
        let functions = model.functions.into_iter().map(|f| ((f.domain.clone(), f.name.clone()), f)).collect();
        let mut reader = Reader { folder, functions, elements: 0, nodes: 0 };
        let graph = reader.graph(graph, None)?;
        if graph.nodes.is_empty() && graph.outputs.is_empty() {
            return Err("this is no ONNX file: it computes nothing".into());
        }
        let producer = format!("{} {}", model.producer_name, model.producer_version).trim().to_string();
        Ok(Self { graph, opset, producer })
    }
}

/// What to do with a file of a format that people take for ONNX.
fn other_format(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [b'P', b'K', 3, 4, ..] => Some(
            "this is a PyTorch or Keras archive, export the network to ONNX: torch.onnx.export(net, x, 'net.onnx'), or \
             python -m tf2onnx.convert",
        ),
        [0x89, b'H', b'D', b'F', ..] => Some(
            "this is an HDF5 file, export the network to ONNX: python -m tf2onnx.convert --keras net.h5 --output net.onnx",
        ),
        [0x80, 2..=5, ..] => {
            Some("this is a Python pickle, export the network to ONNX: torch.onnx.export(net, x, 'net.onnx')")
        }
        [_, _, _, _, b'T', b'F', b'L', b'3', ..] => Some(
            "this is a TensorFlow Lite file, export the network to ONNX: python -m tf2onnx.convert --tflite net.tflite --output net.onnx",
        ),
        [] => Some("the file is empty"),
        _ => None,
    }
}

/// Whether a domain is ONNX's own.
fn is_standard(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// How names and attributes inside of a function become those of the call.
struct Call {
    prefix: String,
    values: HashMap<String, String>,
    attributes: BTreeMap<String, proto::Attribute>,
    depth: usize,
}

impl Call {
    fn name(call: Option<&Self>, name: String) -> String {
        match call {
            Some(call) if !name.is_empty() => {
                call.values.get(&name).cloned().unwrap_or_else(|| format!("{}{name}", call.prefix))
            }
            _ => name,
        }
    }
}

struct Reader<'a> {
    folder: &'a Path,
    functions: HashMap<(String, String), proto::Function>,
    /// Elements of the constants so far.
    elements: usize,
    nodes: usize,
}

impl Reader<'_> {
    fn graph(&mut self, graph: proto::Graph, call: Option<&Call>) -> Result<Graph, String> {
        let mut constants = BTreeMap::new();
        for tensor in graph.initializer {
            let name = Call::name(call, tensor.name.clone());
            let value = self.tensor(tensor).map_err(|e| format!("constant '{name}': {e}"))?;
            constants.insert(name, Arc::new(value));
        }
        let mut inputs = Vec::new();
        for value in graph.input {
            let input = input(value, call)?;
            // Old files list constants among the inputs.
            if !constants.contains_key(&input.name) {
                inputs.push(input);
            }
        }
        let outputs = graph.output.into_iter().map(|v| Call::name(call, v.name)).collect();
        let mut nodes = Vec::new();
        for node in graph.node {
            self.node(node, call, &mut nodes)?;
        }
        Ok(Graph { inputs, outputs, nodes, constants })
    }

    /// Appends a node, or the nodes of the function that it calls.
    fn node(&mut self, node: proto::Node, call: Option<&Call>, nodes: &mut Vec<Node>) -> Result<(), String> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(format!("the network has more than {MAX_NODES} nodes"));
        }
        let inputs: Vec<String> = node.input.into_iter().map(|n| Call::name(call, n)).collect();
        let outputs: Vec<String> = node.output.into_iter().map(|n| Call::name(call, n)).collect();
        let name = if node.name.is_empty() {
            let result = outputs.iter().find(|n| !n.is_empty());
            result.map_or_else(|| node.op_type.clone(), |n| format!("{} of '{n}'", node.op_type))
        } else {
            format!("{}{}", call.map_or("", |c| c.prefix.as_str()), node.name)
        };

        let mut given = BTreeMap::new();
        for mut attribute in node.attribute {
            if !attribute.ref_attr_name.is_empty() {
                let Some(value) = call.and_then(|c| c.attributes.get(&attribute.ref_attr_name)) else { continue };
                attribute = proto::Attribute { name: attribute.name, ..value.clone() };
            }
            given.insert(attribute.name.clone(), attribute);
        }

        let key = (node.domain.clone(), node.op_type.clone());
        if let Some(function) = self.functions.get(&key).cloned() {
            let depth = call.map_or(0, |c| c.depth) + 1;
            if depth > MAX_CALLS {
                return Err(format!("functions call each other more than {MAX_CALLS} deep at node '{name}'"));
            }
            for default in function.attribute_proto {
                given.entry(default.name.clone()).or_insert(default);
            }
            let absent = || std::iter::repeat(String::new());
            let mut values: HashMap<_, _> =
                function.input.into_iter().zip(inputs.into_iter().chain(absent())).collect();
            // A result that the caller leaves out still needs a name inside.
            values.extend(function.output.into_iter().zip(outputs).filter(|(_, n)| !n.is_empty()));
            let inside = Call { prefix: format!("{name}/"), values, attributes: given, depth };
            for node in function.node {
                self.node(node, Some(&inside), nodes)?;
            }
            return Ok(());
        }

        let mut attributes = BTreeMap::new();
        for (key, attribute) in given {
            let value =
                self.attribute(attribute, call).map_err(|e| format!("node '{name}', attribute '{key}': {e}"))?;
            attributes.insert(key, value);
        }
        let domain = if is_standard(&node.domain) { String::new() } else { node.domain };
        nodes.push(Node { name, op: node.op_type, domain, inputs, outputs, attributes });
        Ok(())
    }

    fn attribute(&mut self, a: proto::Attribute, call: Option<&Call>) -> Result<Attribute, String> {
        let text = |b: Bytes| String::from_utf8(b.to_vec()).map_err(|_| "it is no text".to_string());
        Ok(match a.kind {
            1 => Attribute::Float(a.f),
            2 => Attribute::Int(a.i),
            3 => Attribute::String(text(a.s)?),
            4 => Attribute::Tensor(Arc::new(self.tensor(a.t.ok_or("it has no value")?)?)),
            5 => Attribute::Graph(Box::new(self.graph(a.g.ok_or("it has no value")?, call)?)),
            6 => Attribute::Floats(a.floats),
            7 => Attribute::Ints(a.ints),
            8 => Attribute::Strings(a.strings.into_iter().map(text).collect::<Result<_, _>>()?),
            kind => return Err(format!("its type ({kind}) is none that is read here")),
        })
    }

    fn tensor(&mut self, t: proto::Tensor) -> Result<Tensor, String> {
        let shape: Option<Vec<usize>> = t.dims.iter().map(|&d| usize::try_from(d).ok()).collect();
        let shape = shape.ok_or("an axis has a negative length")?;
        let n = super::super::tensor::count(&shape)?;
        self.elements += n;
        if self.elements > MAX_ELEMENTS {
            return Err(format!("the constants have more than {MAX_ELEMENTS} elements"));
        }
        let size = element_size(t.data_type)?;
        let raw =
            if t.data_location == 1 { Bytes::from(self.outside(&t.external_data, n * size)?) } else { t.raw_data };
        let data = if raw.is_empty() && n > 0 {
            match t.data_type {
                1 => Data::Float(t.float_data),
                11 => Data::Float(t.double_data.into_iter().map(|x| x as f32).collect()),
                10 => Data::Float(t.int32_data.into_iter().map(|b| f16::from_bits(b as u16).to_f32()).collect()),
                16 => Data::Float(t.int32_data.into_iter().map(|b| bf16::from_bits(b as u16).to_f32()).collect()),
                9 => Data::Bool(t.int32_data.into_iter().map(|b| b != 0).collect()),
                7 => Data::Int(t.int64_data),
                12 | 13 => Data::Int(t.uint64_data.into_iter().map(|x| x as i64).collect()),
                _ => Data::Int(t.int32_data.into_iter().map(i64::from).collect()),
            }
        } else {
            if raw.len() != n * size {
                return Err(format!("{} bytes for {n} elements of {size} bytes each", raw.len()));
            }
            from_bytes(t.data_type, &raw)
        };
        Tensor::new(shape, data)
    }

    /// Reads `len` bytes of a file beside the model.
    fn outside(&self, entries: &[proto::StringEntry], len: usize) -> Result<Vec<u8>, String> {
        let entry = |key: &str| entries.iter().find(|e| e.key == key).map(|e| e.value.as_str());
        let location = entry("location").ok_or("its data is outside of the file, but the file does not say where")?;
        let place = PathBuf::from(location);
        if !place.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
            return Err(format!("its data would be in '{location}', which is not beside the model file"));
        }
        let number = |key: &str| match entry(key) {
            None => Ok(None),
            Some(v) => v.parse::<u64>().map(Some).map_err(|_| format!("its {key} '{v}' is no number")),
        };
        let offset = number("offset")?.unwrap_or(0);
        if number("length")?.is_some_and(|l| l != len as u64) {
            return Err(format!("its length in '{location}' is not the {len} bytes of its shape"));
        }
        let fail = |e: std::io::Error| format!("its data is in '{location}' beside the model file: {e}");
        let mut file = File::open(self.folder.join(place)).map_err(fail)?;
        let size = file.metadata().map_err(fail)?.len();
        if offset.checked_add(len as u64).is_none_or(|end| end > size) {
            return Err(format!("its data would end behind the {size} bytes of '{location}'"));
        }
        let mut bytes = vec![0; len];
        file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut bytes)).map_err(fail)?;
        Ok(bytes)
    }
}

/// Bytes of an element of one of ONNX's types.
fn element_size(data_type: i32) -> Result<usize, String> {
    Ok(match data_type {
        2 | 3 | 9 => 1,
        4 | 5 | 10 | 16 => 2,
        1 | 6 | 12 => 4,
        7 | 11 | 13 => 8,
        8 => return Err("it holds texts".into()),
        other => return Err(format!("its type ({other}) is none that is read here")),
    })
}

/// Elements from little-endian bytes, as many as there are; the type is one of [`element_size`].
fn from_bytes(data_type: i32, raw: &[u8]) -> Data {
    macro_rules! read {
        ($kind:ident, $ty:ty, $to:expr) => {
            Data::$kind(
                raw.chunks_exact(size_of::<$ty>())
                    .map(|b| $to(<$ty>::from_le_bytes(b.try_into().expect("a chunk has this length"))))
                    .collect(),
            )
        };
    }
    match data_type {
        1 => read!(Float, f32, |x| x),
        11 => read!(Float, f64, |x| x as f32),
        10 => read!(Float, u16, |b| f16::from_bits(b).to_f32()),
        16 => read!(Float, u16, |b| bf16::from_bits(b).to_f32()),
        9 => read!(Bool, u8, |b| b != 0),
        2 => read!(Int, u8, i64::from),
        3 => read!(Int, i8, i64::from),
        4 => read!(Int, u16, i64::from),
        5 => read!(Int, i16, i64::from),
        6 => read!(Int, i32, i64::from),
        12 => read!(Int, u32, i64::from),
        13 => read!(Int, u64, |x| x as i64),
        _ => read!(Int, i64, |x| x),
    }
}

fn input(value: proto::ValueInfo, call: Option<&Call>) -> Result<Input, String> {
    let name = Call::name(call, value.name);
    let tensor = value.kind.and_then(|t| t.tensor_type);
    let kind = match tensor.as_ref().map(|t| t.elem_type) {
        Some(1 | 10 | 11 | 16) => Kind::Float,
        Some(2..=7 | 12 | 13) => Kind::Int,
        Some(9) => Kind::Bool,
        _ => Kind::Other,
    };
    let shape = tensor.and_then(|t| t.shape).map(|shape| {
        let dim = |d: proto::Dimension| match d.dim_value {
            // Some writers use zero or minus one for a length that is not fixed.
            Some(n @ 1..) => usize::try_from(n).map(Dim::Fixed).map_err(|_| format!("input '{name}' is too large")),
            _ => Ok(Dim::Free(d.dim_param.unwrap_or_default())),
        };
        shape.dim.into_iter().map(dim).collect::<Result<Vec<_>, _>>()
    });
    let shape = shape.transpose()?;
    Ok(Input { name, kind, shape })
}
