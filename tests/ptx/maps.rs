//! Tensor maps of the stand-in driver are those that the machine reads.

use software_gpu::ptx::TensorMap;
use software_gpu::take_reports;
use software_gpu::tensor_map::{Arguments, encode};

const FLOAT16: i32 = 6;
const INVALID_VALUE: i32 = 1;
const NOT_SUPPORTED: i32 = 801;

const PLAIN: Arguments = Arguments {
    data_type: FLOAT16,
    rank: 3,
    address: 0x1000,
    sizes: [640, 77, 3, 1, 1],
    strides: [1280, 98560, 0, 0],
    box_sizes: [64, 128, 1, 1, 1],
    element_strides: [1; 5],
    interleave: 0,
    swizzle: 3,
    fill: 0,
};

#[test]
fn the_driver_writes_what_the_machine_reads() {
    let Some((result, bytes)) = encode(&PLAIN) else { return };
    let map = TensorMap {
        address: 0x1000,
        rank: 3,
        element_bytes: 2,
        swizzle: 3,
        sizes: [640, 77, 3, 1, 1],
        strides: [2, 1280, 98560, 2, 2],
        box_sizes: [64, 128, 1, 1, 1],
    };
    assert_eq!((result, bytes), (0, map.encoded()));
}

#[test]
fn the_driver_refuses_what_its_documentation_forbids() {
    let change = |change: fn(&mut Arguments)| {
        let mut arguments = PLAIN;
        change(&mut arguments);
        arguments
    };
    let cases: [(&str, i32, Arguments); 14] = [
        ("the data type is no CUtensorMapDataType", INVALID_VALUE, change(|to| to.data_type = 16)),
        ("the rank must be 1 to 5, found 0", INVALID_VALUE, change(|to| to.rank = 0)),
        ("the address must be aligned to 16 bytes", INVALID_VALUE, change(|to| to.address += 8)),
        ("a size must be 1 to 2^32, found 0", INVALID_VALUE, change(|to| to.sizes[1] = 0)),
        ("a size of the box must be 1 to 256, found 257", INVALID_VALUE, change(|to| to.box_sizes[1] = 257)),
        ("an element stride must be 1 to 8, found 9", INVALID_VALUE, change(|to| to.element_strides[2] = 9)),
        ("a stride must be a multiple of 16", INVALID_VALUE, change(|to| to.strides[0] += 8)),
        ("below 2^40, found 1099511627776", INVALID_VALUE, change(|to| to.strides[1] = 1 << 40)),
        ("a row of the box must be a multiple of 16 bytes, found 8", INVALID_VALUE, change(|to| to.box_sizes[0] = 4)),
        ("a row of the box must fit into the swizzle, found 128", INVALID_VALUE, change(|to| to.swizzle = 2)),
        ("only numbers of floating point can be filled", INVALID_VALUE, change(|to| (to.data_type, to.fill) = (1, 1))),
        ("interleave, swizzle, promotion or fill is no value", INVALID_VALUE, change(|to| to.swizzle = 7)),
        ("a 32-byte interleave needs a 32-byte swizzle", INVALID_VALUE, change(|to| to.interleave = 2)),
        ("interleaved tensors are not modelled", NOT_SUPPORTED, change(|to| (to.interleave, to.swizzle) = (1, 0))),
    ];
    for (words, expected, arguments) in cases {
        let Some((result, _)) = encode(&arguments) else { return };
        let reports = take_reports();
        assert_eq!(result, expected, "{words}: {reports:?}");
        assert!(reports.iter().any(|report| report.contains(words)), "expected `{words}`, found {reports:?}");
    }
}
