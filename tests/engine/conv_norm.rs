//! Convolution and batch norm in one against one after the other, on shapes that reach every algorithm of the CPU.

use xbm_fast::device::{Cpu, Span, SpanMut};
use xbm_fast::ops::batch_norm::{Affine, BatchNorm, BatchNormGeometry};
use xbm_fast::ops::conv::{ConvGeometry, Convolution, Filter};
use xbm_fast::ops::conv_norm::{ConvNorm, ConvNormInputs};
use xbm_fast::rng::Rng;

/// Images, side, input channels, output channels, kernel, stride.
const SHAPES: [[usize; 6]; 9] = [
    [2, 17, 3, 48, 7, 2],
    [3, 16, 32, 48, 3, 1],
    [3, 13, 160, 144, 3, 1],
    [3, 15, 24, 40, 3, 2],
    [4, 20, 24, 72, 1, 1],
    [2, 7, 40, 200, 1, 1],
    [1, 9, 300, 33, 1, 1],
    [2, 9, 12, 20, 1, 2],
    [0, 8, 16, 16, 3, 1],
];

struct Case {
    conv: ConvGeometry,
    norm: BatchNormGeometry,
    input: Vec<f32>,
    filter: Vec<f32>,
    channels: [Vec<f32>; 4],
    residual: Option<Vec<f32>>,
}

impl Case {
    fn new([batch, side, in_channels, out_channels, kernel, stride]: [usize; 6], relu: bool, residual: bool) -> Self {
        let conv =
            ConvGeometry { batch, height: side, width: side + 1, in_channels, out_channels, kernel, stride, padding: kernel / 2 };
        let rows = conv.output_len() / out_channels;
        let mut rng = Rng::new(7).at("conv norm");
        let mut normals = |len: usize| -> Vec<f32> { (0..len).map(|_| rng.normal()).collect() };
        let mut channels = [(); 4].map(|()| normals(out_channels));
        channels[3].iter_mut().for_each(|variance| *variance = variance.abs() + 0.1);
        Self {
            input: normals(conv.input_len()),
            filter: normals(conv.filter_len()),
            residual: residual.then(|| normals(conv.output_len())),
            norm: BatchNormGeometry { rows, channels: out_channels, epsilon: 1e-5, momentum: 0.1, relu, synced: false },
            channels,
            conv,
        }
    }

    fn affine(&self) -> Affine<'_, Cpu> {
        Affine { weight: Span::all(&self.channels[0]), bias: Span::all(&self.channels[1]) }
    }

    fn running(&self) -> (Span<'_, Vec<f32>>, Span<'_, Vec<f32>>) {
        (Span::all(&self.channels[2]), Span::all(&self.channels[3]))
    }

    fn in_one(&self, cpu: &Cpu) -> Vec<f32> {
        self.with(cpu, &Filter::new(Span::all(&self.filter)))
    }

    fn with(&self, cpu: &Cpu, filter: &Filter<'_, Cpu>) -> Vec<f32> {
        let (mut between, mut output) = (vec![0.0; self.conv.output_len()], vec![f32::NAN; self.conv.output_len()]);
        let inputs = ConvNormInputs {
            input: Span::all(&self.input),
            filter,
            affine: self.affine(),
            running: self.running(),
            residual: self.residual.as_ref().map(Span::all),
        };
        let (between, to) = (SpanMut::all(&mut between), SpanMut::all(&mut output));
        cpu.conv_norm_eval((&self.conv, &self.norm), inputs, between, to).unwrap();
        output
    }

    fn one_after_the_other(&self, cpu: &Cpu) -> Vec<f32> {
        let (mut between, mut output) = (vec![0.0; self.conv.output_len()], vec![f32::NAN; self.conv.output_len()]);
        cpu.conv_forward(&self.conv, Span::all(&self.input), Span::all(&self.filter), SpanMut::all(&mut between)).unwrap();
        let residual = self.residual.as_ref().map(Span::all);
        let to = SpanMut::all(&mut output);
        cpu.batch_norm_eval(&self.norm, Span::all(&between), self.affine(), residual, self.running(), to).unwrap();
        output
    }
}

#[test]
fn gives_the_bits_of_one_after_the_other_on_any_number_of_threads() {
    let [one, two] = [1, 2].map(|threads| Cpu::new(Some(threads)).unwrap());
    for shape in SHAPES {
        for (relu, residual) in [(false, false), (true, false), (true, true)] {
            let case = Case::new(shape, relu, residual);
            let expected = bits(&case.one_after_the_other(&one));
            for cpu in [&one, &two] {
                assert_eq!(
                    bits(&case.in_one(cpu)),
                    expected,
                    "{shape:?}, ReLU {relu}, residual {residual}, {} threads",
                    cpu.threads()
                );
            }
        }
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn a_prepared_filter_gives_the_same_bits_by_every_algorithm() {
    let [one, two] = [1, 2].map(|threads| Cpu::new(Some(threads)).unwrap());
    let mut prepared = 0;
    for shape in SHAPES {
        let case = Case::new(shape, true, true);
        let filter = Filter::prepared(&two, &case.conv, Span::all(&case.filter)).unwrap();
        prepared += usize::from(filter.is_prepared());
        let expected = bits(&case.in_one(&one));
        for cpu in [&one, &two] {
            assert_eq!(bits(&case.with(cpu, &filter)), expected, "{shape:?}, {} threads", cpu.threads());
        }
    }
    // All but the one of many pixels and the one of none.
    assert_eq!(prepared, SHAPES.len() - 2);
}

#[test]
fn a_filter_prepared_for_another_convolution_gives_the_same_bits() {
    let cpu = Cpu::new(Some(2)).unwrap();
    // A batch too small for the algorithm of a full one; another one of the same algorithm; channels the other way round.
    for (shape, other) in [
        ([1, 8, 32, 48, 3, 1], [9, 8, 32, 48, 3, 1]),
        ([5, 7, 40, 200, 1, 1], [2, 7, 40, 200, 1, 1]),
        ([3, 16, 32, 48, 3, 1], [3, 16, 48, 32, 3, 1]),
    ] {
        let (case, other) = (Case::new(shape, true, false), Case::new(other, true, false));
        let filter = Filter::prepared(&cpu, &other.conv, Span::all(&case.filter)).unwrap();
        assert!(filter.is_prepared());
        assert_eq!(bits(&case.with(&cpu, &filter)), bits(&case.in_one(&cpu)), "{shape:?}");
    }
}

#[test]
fn wrong_lengths_are_refused() {
    let cpu = Cpu::new(Some(1)).unwrap();
    let mut case = Case::new(SHAPES[1], true, true);
    case.residual.as_mut().unwrap().pop();
    let (mut between, mut output) = (vec![0.0; case.conv.output_len()], vec![0.0; case.conv.output_len()]);
    let inputs = ConvNormInputs {
        input: Span::all(&case.input),
        filter: &Filter::new(Span::all(&case.filter)),
        affine: case.affine(),
        running: case.running(),
        residual: case.residual.as_ref().map(Span::all),
    };
    let (between, to) = (SpanMut::all(&mut between), SpanMut::all(&mut output));
    assert!(cpu.conv_norm_eval((&case.conv, &case.norm), inputs, between, to).is_err());
    let short = Span::new(&case.filter, 0, case.filter.len() - 1);
    assert!(Filter::prepared(&cpu, &case.conv, short).is_err());
}
