//! What a declaration asks for, and what it is refused for.

use std::path::Path;
use xbm_fast::app::study::StudyPlan;
use xbm_fast::app::study::plan::{DEFAULT, QUICK};
use xbm_fast::loss::Gate;

fn plan(text: &str) -> StudyPlan {
    StudyPlan::parse(text, Path::new("study.toml")).unwrap()
}

#[test]
fn the_built_in_studies_ask_for_what_train_can_do() {
    for text in [DEFAULT, QUICK] {
        let plan = plan(text);
        let variants = plan.variants().unwrap();
        assert!(variants.len() >= 6 && plan.facts.len() >= 5);
        assert_eq!(StudyPlan::parse(&plan.to_toml(), Path::new("again")).unwrap(), plan);
    }
}

#[test]
fn axes_give_every_combination_and_settings_give_the_rest() {
    let text = "title = 't'\nseeds = [0]\nbase = { steps = 7 }\n[[group]]\nname = 'g'\nsettings = { dim = 8 }\n\
                axes = { memory = ['none', 'instance'], negative_gate = [0.1, 0.9] }\n";
    let variants = plan(text).variants().unwrap();
    let names: Vec<&str> = variants.iter().map(|variant| variant.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "g/memory=none,negative_gate=0.1",
            "g/memory=none,negative_gate=0.9",
            "g/memory=instance,negative_gate=0.1",
            "g/memory=instance,negative_gate=0.9"
        ]
    );
    let config = &variants[3].config;
    assert_eq!((config.train.batch.steps, config.train.model.dim, config.train.weighting.negative.gate), (7, 8, Gate::Above(0.9)));
}

#[test]
fn a_declaration_that_cannot_be_run_is_refused_with_its_reason() {
    let group = "[[group]]\nname = 'rule'\n";
    let fact = "[[fact]]\nname = 'F'\nstatement = 's'\nclaim = [{ variant = 'ruel', is = 'better', than = 'rule' }]\n";
    let cases: [(String, &[&str]); 7] = [
        (format!("title = ''\nseeds = []\n{group}"), &["seeds"]),
        (format!("title = ''\nseeds = [1, 1]\n{group}"), &["different `seeds`"]),
        ("title = ''\nseeds = [1]\n".to_owned(), &["[[group]]"]),
        (format!("title = ''\nseeds = [1]\n{group}{group}"), &["two variants", "`rule`"]),
        (format!("title = ''\nseeds = [1]\n{group}settings = {{ stepz = 3 }}\n"), &["variant `rule`", "`steps`"]),
        (format!("title = ''\nseeds = [1]\n{group}settings = {{ seed = 3 }}\n"), &["variant `rule`", "`seed`"]),
        (format!("title = ''\nseeds = [1]\n{group}{fact}"), &["fact F", "`ruel`", "`rule`"]),
    ];
    for (text, words) in cases {
        let error = plan(&text).variants().unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
    let error = StudyPlan::parse("title = ''\nseeds = [1]\ngroups = 3\n", Path::new("mine.toml")).unwrap_err().to_string();
    assert!(error.contains("mine.toml") && error.contains("line 3"), "{error}");
}
