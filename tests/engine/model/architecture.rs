//! Names, shapes and counts of the parameters, and how they are drawn.

use super::{DEPTHS, DIM};
use xbm_fast::model::{Architecture, Depth, Role, Weights};
use xbm_fast::ops::pool::GlobalPooling;

#[test]
fn parameter_counts_equal_torchvisions() {
    // The models' documented sizes with 1000 outputs, and their batch norms' channels.
    for (depth, parameters, statistics) in [
        (Depth::ResNet18, 11_689_512, 4_800),
        (Depth::ResNet34, 21_797_672, 8_512),
        (Depth::ResNet50, 25_557_032, 26_560),
        (Depth::ResNet101, 44_549_160, 52_672),
    ] {
        let architecture = Architecture::new(depth, 64, 1000, GlobalPooling::Avg).unwrap();
        assert_eq!((architecture.parameters_len, architecture.statistics_len), (parameters, statistics), "{depth:?}");
    }
}

#[test]
fn the_small_network_has_a_block_in_each_stage_and_half_the_channels() {
    let architecture = Architecture::new(Depth::Small, 64, DIM, GlobalPooling::Avg).unwrap();
    let block = |from: usize, to: usize| 9 * from * to + 9 * to * to + 4 * to;
    let shortcut = |from: usize, to: usize| from * to + 2 * to;
    let stages = [(32, 64), (64, 128), (128, 256)].map(|(from, to)| block(from, to) + shortcut(from, to));
    let expected = 7 * 7 * 3 * 32 + 2 * 32 + block(32, 32) + stages.iter().sum::<usize>() + 257 * DIM;
    assert_eq!(architecture.parameters_len, expected);
}

#[test]
fn parameters_lie_one_after_the_other_under_names_of_their_own() {
    for (_, depth) in DEPTHS {
        let architecture = Architecture::new(depth, 64, DIM, GlobalPooling::Avg).unwrap();
        let mut end = 0;
        for parameter in &architecture.parameters {
            assert_eq!(parameter.start, end, "{}", parameter.name);
            end += parameter.len();
        }
        assert_eq!(end, architecture.parameters_len);
        let names: std::collections::HashSet<_> = architecture.parameters.iter().map(|parameter| &parameter.name).collect();
        assert_eq!(names.len(), architecture.parameters.len());
    }
}

#[test]
fn a_bottleneck_has_torchvisions_names_and_shapes() {
    let architecture = Architecture::new(Depth::ResNet50, 64, 7, GlobalPooling::Avg).unwrap();
    let shape = |name: &str| {
        let found = architecture.parameters.iter().find(|parameter| parameter.name == name);
        found.unwrap_or_else(|| panic!("no parameter {name}")).shape.clone()
    };
    assert_eq!(shape("conv1.weight"), [64, 3, 7, 7]);
    assert_eq!(shape("bn1.bias"), [64]);
    assert_eq!(shape("layer2.0.conv1.weight"), [128, 256, 1, 1]);
    assert_eq!(shape("layer2.0.conv2.weight"), [128, 128, 3, 3]);
    assert_eq!(shape("layer2.0.conv3.weight"), [512, 128, 1, 1]);
    assert_eq!(shape("layer2.0.downsample.0.weight"), [512, 256, 1, 1]);
    assert_eq!(shape("layer2.0.downsample.1.weight"), [512]);
    assert_eq!(shape("layer4.2.bn3.weight"), [2048]);
    assert_eq!(shape("fc.weight"), [7, 2048]);
    assert_eq!(shape("fc.bias"), [7]);
}

#[test]
fn initial_filters_have_kaimings_deviation_and_follow_the_seed() {
    // The sample deviation of n normal values is off by about 1 / sqrt(2 n); 5 of these, at the smallest filter's n.
    const DEVIATION: f64 = 0.05;
    let cpu = crate::support::cpu(1);
    let architecture = Architecture::new(Depth::ResNet18, 64, DIM, GlobalPooling::Avg).unwrap();
    let initial = |seed| Weights::initialised(&cpu, &architecture, seed).unwrap().parameters.to_host(&cpu).unwrap();
    let values = initial(1);
    assert_eq!(values, initial(1));
    assert_ne!(values, initial(2));
    for parameter in &architecture.parameters {
        let values = &values[parameter.start..][..parameter.len()];
        match parameter.role {
            Role::Filter => {
                let expected = (2.0 / (parameter.shape[0] * parameter.shape[2] * parameter.shape[3]) as f64).sqrt();
                let variance = values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>() / values.len() as f64;
                let error = (variance.sqrt() / expected - 1.0).abs();
                assert!(error < DEVIATION, "{}: deviation {}, expected {expected}", parameter.name, variance.sqrt());
            }
            Role::Scale => assert!(values.iter().all(|&value| value == 1.0), "{}", parameter.name),
            Role::Shift => assert!(values.iter().all(|&value| value == 0.0), "{}", parameter.name),
            Role::Head { fan_in } => {
                let bound = (fan_in as f32).sqrt().recip();
                assert!(values.iter().all(|&value| value.abs() <= bound), "{}", parameter.name);
                assert!(values.iter().any(|&value| value != 0.0), "{}", parameter.name);
            }
        }
    }
}
