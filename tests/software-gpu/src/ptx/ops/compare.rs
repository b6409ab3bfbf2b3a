//! Comparisons; a comparison of numbers that ends in u holds for NaN too.

use super::{Entry, entry};

fn short(value: u32) -> i16 {
    value as u16 as i16
}

fn nan(a: f64, b: f64) -> bool {
    a.is_nan() || b.is_nan()
}

macro_rules! ordered {
    ($comparison:expr, $shape:ident, $read:expr) => {
        match $comparison {
            "eq" => entry!(Integer, $shape, |a, b| $read(a) == $read(b)),
            "ne" => entry!(Integer, $shape, |a, b| $read(a) != $read(b)),
            "lt" | "lo" => entry!(Integer, $shape, |a, b| $read(a) < $read(b)),
            "le" | "ls" => entry!(Integer, $shape, |a, b| $read(a) <= $read(b)),
            "gt" | "hi" => entry!(Integer, $shape, |a, b| $read(a) > $read(b)),
            "ge" | "hs" => entry!(Integer, $shape, |a, b| $read(a) >= $read(b)),
            _ => None,
        }
    };
}

macro_rules! numbers {
    ($comparison:expr, $class:ident, $shape:ident, $read:expr) => {
        match $comparison {
            "eq" => entry!($class, $shape, |a, b| $read(a) == $read(b)),
            "ne" => entry!($class, $shape, |a, b| $read(a) != $read(b) && !nan($read(a), $read(b))),
            "lt" => entry!($class, $shape, |a, b| $read(a) < $read(b)),
            "le" => entry!($class, $shape, |a, b| $read(a) <= $read(b)),
            "gt" => entry!($class, $shape, |a, b| $read(a) > $read(b)),
            "ge" => entry!($class, $shape, |a, b| $read(a) >= $read(b)),
            "equ" => entry!($class, $shape, |a, b| $read(a) == $read(b) || nan($read(a), $read(b))),
            "neu" => entry!($class, $shape, |a, b| $read(a) != $read(b)),
            "ltu" => entry!($class, $shape, |a, b| $read(a) < $read(b) || nan($read(a), $read(b))),
            "leu" => entry!($class, $shape, |a, b| $read(a) <= $read(b) || nan($read(a), $read(b))),
            "gtu" => entry!($class, $shape, |a, b| $read(a) > $read(b) || nan($read(a), $read(b))),
            "geu" => entry!($class, $shape, |a, b| $read(a) >= $read(b) || nan($read(a), $read(b))),
            "num" => entry!($class, $shape, |a, b| !nan($read(a), $read(b))),
            "nan" => entry!($class, $shape, |a, b| nan($read(a), $read(b))),
            _ => None,
        }
    };
}

pub fn find(opcode: &str) -> Option<Entry> {
    let (comparison, ty) = opcode.strip_prefix("setp.")?.split_once('.')?;
    match ty {
        "u32" | "b32" => ordered!(comparison, p_ww, |a: u32| a),
        "s32" => ordered!(comparison, p_ww, |a: u32| a.cast_signed()),
        "u16" | "b16" => ordered!(comparison, p_ww, |a: u32| a & 0xffff),
        "s16" => ordered!(comparison, p_ww, short),
        "u64" | "b64" => ordered!(comparison, p_xx, |a: u64| a),
        "s64" => ordered!(comparison, p_xx, |a: u64| a.cast_signed()),
        "f32" => numbers!(comparison, Float, p_ww, |a: u32| f64::from(f32::from_bits(a))),
        "f64" => numbers!(comparison, Double, p_xx, f64::from_bits),
        _ => None,
    }
}
