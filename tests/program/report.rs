//! The report page: complete, self-contained, well-formed, and safe against the text it shows.

use xbm_fast::app::report::{Figure, FigureCurve, Gallery, Neighbour, Note, Query, Report, Score, Thumbnail, WeightCurves, render};
use xbm_fast::app::runlog::StepMetrics;
use xbm_fast::evaluate::SimilarityHistogram;
use xbm_fast::rng::Rng;

/// A disc or a square in a colour: something to tell classes apart by.
fn picture(class: usize, view: u64) -> Thumbnail {
    let mut rng = Rng::new(view).at(class);
    let (centre_x, centre_y) = (rng.uniform(40.0, 56.0), rng.uniform(40.0, 56.0));
    let colour = [[200, 70, 60], [60, 120, 200], [240, 180, 60], [90, 160, 90], [150, 90, 180]][class % 5];
    let background = [rng.below(60) as u8 + 180, rng.below(60) as u8 + 180, rng.below(60) as u8 + 180];
    let mut rgb = Vec::new();
    for y in 0..96 {
        for x in 0..96 {
            let (across, down) = (x as f32 - centre_x, y as f32 - centre_y);
            let inside = if class.is_multiple_of(2) { across.hypot(down) < 28.0 } else { across.abs().max(down.abs()) < 24.0 };
            rgb.extend(if inside { colour } else { background });
        }
    }
    Thumbnail::from_rgb(&rgb, 96, 96).unwrap()
}

fn query(class: usize, correct: [bool; 8]) -> Query {
    let neighbour = |(place, correct): (usize, bool)| {
        let shown = if correct { class } else { (class + 2 + place) % 5 };
        let similarity = 0.97 - 0.06 * place as f32;
        Neighbour {
            image: picture(shown, place as u64 + 9),
            label: format!("product {shown:03}"),
            similarity,
            correct: Some(correct),
        }
    };
    let neighbours = correct.into_iter().enumerate().map(neighbour).collect();
    Query { image: picture(class, 1), label: format!("product {class:03}"), neighbours }
}

/// A run that never was, with everything a report can show.
fn example() -> Report {
    let mut rng = Rng::new(0);
    let mut steps = Vec::new();
    for step in (0..=800u64).step_by(4) {
        let progress = step as f64 / 800.0;
        let noise = 1.0 + 0.12 * f64::from(rng.normal());
        let evaluated = step % 100 == 0;
        let in_memory = step >= 200;
        steps.push(StepMetrics {
            step,
            batch_loss: Some((6.2 * (-3.0 * progress).exp() + 1.1) * noise),
            memory_loss: in_memory.then_some((40.0 * (-2.5 * progress).exp() + 6.0) * noise),
            kept_positives: Some(3.0 + if in_memory { 9.0 * progress } else { 0.0 }),
            kept_negatives: Some((48.0 * (-4.0 * progress).exp() + 3.0) * noise),
            images_per_second: Some(410.0 + 14.0 * f64::from(rng.normal())),
            data_wait: Some(0.02 + 0.01 * f64::from(rng.unit())),
            recall_at_1: evaluated.then_some(0.21 + 0.655 * (1.0 - (-4.2 * progress).exp())),
            map_at_r: evaluated.then_some(0.08 + 0.51 * (1.0 - (-3.6 * progress).exp())),
            ..StepMetrics::default()
        });
    }
    let bell = |centre: f64, width: f64| {
        let heights: Vec<f64> =
            (0..60).map(|bin| (-((-1.0 + (f64::from(bin) + 0.5) / 30.0 - centre) / width).powi(2)).exp()).collect();
        let sum: f64 = heights.iter().sum();
        heights.into_iter().map(|height| height / sum).collect::<Vec<_>>()
    };
    let curve = |weight: fn(f64) -> f64| (0..=200).map(|i| -1.0 + f64::from(i) / 100.0).map(|s| (s, weight(s))).collect();
    let score = |name: &str, before: f64, after: f64| Score { name: name.into(), before: Some(before), after };
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Report {
        title: "Synthetic products".into(),
        subtitle: "ResNet-18, 128-d, momentum memory of 1,984 rows, 800 steps on cpu, 2 threads".into(),
        headline: Some(score("Recall@1 on classes never trained on", 0.2107, 0.8573)),
        scores: vec![
            score("Recall@1", 0.2107, 0.8573),
            score("Recall@10", 0.4873, 0.961),
            score("MAP@R", 0.0812, 0.5731),
            score("R-precision", 0.1133, 0.6321),
            score("Mean reciprocal rank", 0.3012, 0.8921),
        ],
        settings: vec![
            setting("batch", "64 images, 4 per class"),
            setting("memory", "momentum, 1,984 rows, from step 200, m = 0.99"),
            setting("weighting", "positive 1, negative 1 above 0.5"),
            setting("optimiser", "adam, learning rate 0.001"),
            setting("images", "40 classes x 50, 32 pixels"),
            setting("seed", "0"),
        ],
        steps,
        weights: Some(WeightCurves {
            row: None,
            name: "contrastive".into(),
            positive: curve(|_| 1.0),
            negative: curve(|similarity| if similarity > 0.5 { 1.0 } else { 0.0 }),
            histogram: Some(SimilarityHistogram { positive: bell(0.72, 0.22), negative: bell(0.06, 0.26) }),
        }),
        galleries: vec![
            Gallery {
                title: "Queries and their nearest neighbours".into(),
                description: "Drawn at random among the images of unseen classes.".into(),
                queries: vec![
                    query(0, [true, true, true, true, true, false, true, false]),
                    query(1, [true, true, false, true, true, true, false, false]),
                    query(3, [true; 8]),
                    query(4, [true, false, true, false, true, false, false, false]),
                ],
            },
            Gallery {
                title: "Hard failures".into(),
                description: "The queries whose first positive comes last.".into(),
                queries: vec![query(2, [false; 8]), query(4, [false, false, false, false, false, false, true, false])],
            },
        ],
        notes: vec![
            Note::Warning("3 of 2,000 files were skipped, the first: images/041/0007.jpg: not an image (found 0 bytes).".into()),
            Note::Information("12 of 1,000 queries have no other image of their class and do not count.".into()),
        ],
        version: "0.1.0".into(),
    }
}

#[test]
fn the_page_shows_scores_before_and_after_charts_and_galleries() {
    let html = render(&example());
    if let Some(path) = std::env::var_os("XBM_REPORT_EXAMPLE") {
        std::fs::write(path, &html).unwrap();
    }
    for expected in [
        "21.1%",
        "85.7%",
        "Recall@1 on classes never trained on",
        "Loss per anchor",
        "Pair weight by similarity",
        "Images per second",
        "Time waiting for images",
        "Hard failures",
        "wrong: neighbour of class product",
        "3 of 2,000 files were skipped",
    ] {
        assert!(html.contains(expected), "the page lacks {expected:?}");
    }
    assert_eq!(6, html.matches("<figure").count());
    assert_eq!(html.matches("<svg viewBox=\"0 0 460").count(), html.matches("<desc>").count(), "every chart is described");
    assert_eq!(html.matches("<img").count(), html.matches(" alt=\"").count(), "every image has a text");
}

#[test]
fn a_page_without_scores_and_verdicts_shows_neither() {
    let mut query = query(1, [true; 8]);
    query.neighbours.iter_mut().for_each(|neighbour| neighbour.correct = None);
    let found = Gallery { title: "Found".into(), queries: vec![query], ..Gallery::default() };
    let html = render(&Report { title: "Search".into(), galleries: vec![found], ..Report::default() });
    assert_eq!(html.matches("<img").count(), 9);
    let body = &html[html.find("<body").unwrap()..];
    for absent in ["headline", "badge", "same class", "%"] {
        assert!(!body.contains(absent), "the page contains {absent:?}");
    }
}

#[test]
fn the_page_fetches_nothing_and_runs_nothing() {
    let html = render(&example());
    for forbidden in ["<script", "<link", "http://", "https://", "url(", "@import"] {
        assert!(!html.contains(forbidden), "the page contains {forbidden:?}");
    }
    assert!(html.matches("src=\"").count() == html.matches("src=\"data:image/jpeg;base64,").count());
}

#[test]
fn tags_are_closed_in_order() {
    let html = render(&example());
    let mut open: Vec<&str> = Vec::new();
    let body = &html[html.find("<body").unwrap()..];
    for tag in body.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()) {
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if tag.starts_with('/') {
            if name != "html" {
                assert_eq!(Some(name), open.pop(), "at <{tag}>");
            }
        } else if !tag.ends_with('/') && name != "img" {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn text_is_escaped_wherever_it_appears() {
    let hostile = "\"><script>alert('x')</script>&";
    let mut report = example();
    report.title = hostile.into();
    report.subtitle = hostile.into();
    report.headline.as_mut().unwrap().name = hostile.into();
    report.scores[0].name = hostile.into();
    report.settings[0] = (hostile.into(), hostile.into());
    report.notes = vec![Note::Warning(hostile.into()), Note::Information(hostile.into())];
    report.version = hostile.into();
    report.weights.as_mut().unwrap().name = hostile.into();
    let gallery = &mut report.galleries[0];
    (gallery.title, gallery.description) = (hostile.into(), hostile.into());
    gallery.queries[0].label = hostile.into();
    gallery.queries[0].neighbours[0].label = hostile.into();
    let html = render(&report);
    assert!(!html.contains("<script"));
    assert!(html.matches("&lt;script&gt;").count() >= 13);
    assert!(html.contains("&quot;&gt;&lt;script&gt;alert('x')&lt;/script&gt;&amp;"));
}

#[test]
fn an_empty_run_and_values_that_are_not_finite_still_give_a_page() {
    let html = render(&Report::default());
    assert!(html.contains("</html>") && !html.contains("<figure"));
    let steps = [f64::NAN, f64::INFINITY, 2.0].map(|loss| StepMetrics { batch_loss: Some(loss), ..StepMetrics::default() });
    let html = render(&Report { steps: steps.to_vec(), ..Report::default() });
    let body = &html[html.find("<body").unwrap()..];
    assert!(body.contains("Loss per anchor") && !body.contains("NaN") && !body.contains("inf"));
}

#[test]
fn a_thumbnail_is_small_and_refuses_bytes_of_another_size() {
    let thumbnail = Thumbnail::from_rgb(&vec![90; 600 * 400 * 3], 600, 400).unwrap();
    assert!(thumbnail.address().len() < 20_000);
    assert!(Thumbnail::from_rgb(&[0; 5], 1, 2).unwrap_err().to_string().contains("expected 6 values, found 5"));
    assert!(Thumbnail::from_rgb(&[], 0, 2).is_err());
}

#[test]
fn a_figure_is_an_svg_of_its_own_with_two_panels_a_legend_and_notes() {
    let rising = |scale: f64| (0..=10).map(|point| (f64::from(point) / 5.0 - 1.0, scale * f64::from(point) / 10.0)).collect();
    let curves = vec![FigureCurve { name: "a & b".to_owned(), positive: rising(1.0), negative: rising(0.5) }];
    let figure = Figure { curves, weight_label: "weight".to_owned(), histogram: None, notes: vec!["A note.".to_owned()] };
    let svg = figure.svg();
    assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" ") && svg.ends_with("</svg>\n"));
    for text in ["positive pairs", "negative pairs", "similarity", "weight", "a &amp; b", "A note."] {
        assert!(svg.contains(&format!(">{text}</text>")), "{text}");
    }
    // A line of a weight from 0 at -1 to 1 at 1 goes up through its panel evenly, in the weighting's colour.
    let lines: Vec<&str> =
        svg.split("<path ").filter(|path| path.contains("stroke-width=\"2\"") && path.matches('L').count() == 10).collect();
    assert_eq!(lines.len(), 2, "a line a panel");
    assert!(lines.iter().all(|line| line.contains("stroke=\"#0072b2\"")));
    let points = |line: &str| -> Vec<(f64, f64)> {
        let path = line.split("d=\"M").nth(1).unwrap().split('"').next().unwrap();
        let point = |text: &str| text.split_once(' ').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).unwrap();
        path.split('L').map(point).collect()
    };
    let [positive, negative] = [points(lines[0]), points(lines[1])];
    let middle = |line: &[(f64, f64)]| ((line[0].0 + line[10].0) / 2.0, (line[0].1 + line[10].1) / 2.0);
    for line in [&positive, &negative] {
        let (across, up) = (line[5].0 - middle(line).0, line[5].1 - middle(line).1);
        assert!(across.abs() <= 0.1 && up.abs() <= 0.1, "{line:?}");
    }
    assert!(positive[10].0 < negative[0].0, "side by side");
    assert_eq!(positive[0].1, negative[0].1, "on one base line");
}
