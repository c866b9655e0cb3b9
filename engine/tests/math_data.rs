//! The math functions against outputs of the authors' library, bit for bit, for all inputs of 16 bits.
//!
//! Needs `SIRNN_DATA`, a folder with `math/<function>_<bits in>_<scale in>_<bits out>_<scale out>.u16`: the outputs in input
//! order as little-endian words. They were made with positive inputs of exp replaced by 0, and for rsqrt the sign bit of
//! the input cleared and 0 replaced by 1.

use sirnn::fixed::{math, wrap};
use std::{fs, path::Path};

/// The function named, on inputs as the reference prepared them.
fn function(name: &str, width: u32, s_in: i32, s_out: u32) -> Option<Box<dyn Fn(i128) -> i128>> {
    Some(match name {
        "exp" => {
            let exp = math::Exp::new(width, s_in, s_out).unwrap();
            Box::new(move |x| exp.eval(x.min(0)))
        }
        "sigmoid" => {
            let sigmoid = math::Sigmoid::new(width, s_in, s_out).unwrap();
            Box::new(move |x| sigmoid.eval(x))
        }
        "tanh" => {
            let tanh = math::Tanh::new(width, s_in, s_out).unwrap();
            Box::new(move |x| tanh.eval(x))
        }
        "rsqrt" => {
            let rsqrt = math::Root::rsqrt(width, s_in, s_out).unwrap();
            Box::new(move |x| rsqrt.eval(wrap(x, width - 1, false).max(1)))
        }
        "sqrt" => {
            let sqrt = math::Root::sqrt(width, s_in, s_out).unwrap();
            Box::new(move |x| sqrt.eval(wrap(x, width - 1, false).max(1)))
        }
        _ => return None,
    })
}

fn check(path: &Path) {
    let stem = path.file_stem().unwrap().to_str().unwrap();
    let mut parts = stem.split('_');
    let name = parts.next().unwrap();
    let numbers: Vec<u32> = parts.map(|number| number.parse().unwrap()).collect();
    let [width, s_in, width_out, s_out] = numbers[..] else { panic!("{stem}: not a reference file") };
    let f = function(name, width, s_in as i32, s_out).unwrap_or_else(|| panic!("{stem}: unknown function"));
    let bytes = fs::read(path).unwrap();
    assert_eq!(bytes.len(), 2 << width, "{stem}: length");
    for (input, expected) in bytes.chunks_exact(2).enumerate() {
        let expected = i128::from(u16::from_le_bytes([expected[0], expected[1]]));
        let x = wrap(input as i128, width, true);
        assert_eq!(wrap(f(x), width_out, false), expected, "{stem}: input {x}");
    }
    println!("{stem}: {} inputs equal", bytes.len() / 2);
}

#[test]
fn equals_the_reference_library() {
    let Some(data) = std::env::var_os("SIRNN_DATA") else {
        println!("skipped: SIRNN_DATA is not set");
        return;
    };
    let mut files: Vec<_> =
        fs::read_dir(Path::new(&data).join("math")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "u16"));
    files.sort();
    assert!(!files.is_empty(), "no reference files");
    files.iter().for_each(|path| check(path));
}
