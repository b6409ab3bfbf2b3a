//! The recipes: that each is whole, sound, described and sourced, and that flags override it.

use xbm_fast::app::config::{Source, TrainConfig};
use xbm_fast::app::recipes::{RECIPES, Recipe, list};
use xbm_fast::memory::MemoryKind;
use xbm_fast::model::Depth;
use xbm_fast::train::schedule::ScheduleKind;

fn settings(name: &str) -> TrainConfig {
    TrainConfig::merged(None, Recipe::named(name).unwrap().table().unwrap()).unwrap()
}

#[test]
fn every_recipe_is_a_sound_run_with_a_description_and_a_source() {
    let listed = list();
    for recipe in RECIPES {
        let config = settings(recipe.name);
        assert!(config.data.spec.starts_with(&format!("{}:", recipe.name.trim_end_matches("-512"))), "{}", config.data.spec);
        assert!(recipe.description().contains("ResNet-50"), "{}", recipe.description());
        assert!(recipe.source().starts_with("Source: "), "{}", recipe.source());
        assert!(listed.contains(recipe.description()) && listed.contains(recipe.source()));
        assert!(
            config.train.memory.start < config.train.batch.steps / 10 && config.record.eval_every < config.train.batch.steps,
            "{}",
            recipe.name
        );
        assert!(
            config.record.out.as_os_str().is_empty() && config.data.pretrained.as_os_str().is_empty(),
            "no path of one machine"
        );
    }
}

#[test]
fn the_first_recipe_holds_the_published_values_of_xbm() {
    let config = settings("sop");
    assert_eq!((config.train.model.backbone, config.train.model.dim, config.train.model.image_size), (Depth::ResNet50, 128, 224));
    assert_eq!((config.train.batch.size, config.sampling.samples_per_class, config.train.batch.steps), (64, 4, 35_000));
    assert_eq!(
        (config.train.memory.kind, config.train.memory.size, config.train.memory.start),
        (MemoryKind::CrossBatch, 55_000, 1000)
    );
    assert_eq!(
        (config.train.optimizer.lr, config.train.optimizer.weight_decay, config.train.schedule.kind),
        (1e-4, 5e-4, ScheduleKind::Plateau)
    );
    assert!(!config.train.model.freeze_batch_norm && settings("sop-512").train.model.freeze_batch_norm);
    assert_eq!((settings("sop-512").train.model.dim, settings("sop-512").train.model.image_size), (512, 256));
}

#[test]
fn every_file_in_the_folder_is_built_in() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes");
    let mut files: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let mut names: Vec<String> = RECIPES.iter().map(|recipe| format!("{}.toml", recipe.name)).collect();
    names.sort();
    assert_eq!(files, names);
}

#[test]
fn an_unknown_recipe_is_refused_with_the_known_ones() {
    let message = Recipe::named("sopp").unwrap_err().to_string();
    assert!(message.contains("sopp") && message.contains("sop, sop-512, inshop"), "{message}");
}

#[test]
fn flags_override_a_recipe_and_another_weighting_takes_the_place_of_its() {
    let layers = |flags: &str| {
        let recipe = Recipe::named("sop").unwrap();
        TrainConfig::layered([(Source::Recipe(recipe.name), recipe.table().unwrap()), (Source::Flags, flags.parse().unwrap())])
    };
    let plain = layers("").unwrap();
    let config = layers("weighting = 'circle'\nsteps = 9").unwrap();
    assert_eq!((config.train.batch.steps, config.train.model.dim), (9, plain.train.model.dim));
    assert_eq!(config.train.weighting, "circle".parse().unwrap());
    let config = layers("negative_gate = 0.25").unwrap();
    assert_eq!(config.train.weighting.positive, plain.train.weighting.positive);
    assert_ne!(config.train.weighting.negative, plain.train.weighting.negative);
}
