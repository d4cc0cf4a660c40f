//! The pictures and pages of `record` and `diff` in a real browser: their scripts run without an error, and clicks and words do what they
//! promise. What was seen is kept in the build's own folder, to be looked at (`target/tmp/*.png`).

/// Chromium, as far as it is needed.
mod chromium;

use std::fs;

use self::chromium::Chromium;
use crate::{
    profiles::{name, steady},
    support::Surroundings,
};

/// Keeps what the page looks like.
fn keep(browser: &mut Chromium, name: &str) {
    let picture = browser.picture();
    assert!(picture.starts_with(b"\x89PNG") && picture.len() > 10_000, "{}", picture.len());
    fs::write(format!("{}/{name}.png", env!("CARGO_TARGET_TMPDIR")), picture).unwrap();
}

fn text(browser: &mut Chromium, id: &str) -> String {
    let text = browser.evaluate(&format!("document.getElementById({id:?}).textContent"));
    text.as_str().unwrap().to_owned()
}

/// The share, in percent, that a text tells after a word.
fn share(text: &str) -> f64 {
    let number = text.rsplit_once(" %").unwrap().0.rsplit(' ').next().unwrap();
    number.parse().unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn the_picture_can_be_zoomed_and_searched() {
    let target = steady();
    let surroundings = Surroundings::new();
    surroundings.run(&["record", &name(&target), "-d", "3", "-r", "499", "-o", "a.svg"]).ok();
    let mut browser = Chromium::start();
    browser.open(&surroundings.path("a.svg"));
    let frame = "g[data-n=warm] rect";
    let width_of = |browser: &mut Chromium, name: &str| browser.place(&format!("g[data-n={name}] rect"))[2];
    let narrow = width_of(&mut browser, "warm");
    assert!((100.0..700.0).contains(&narrow), "{narrow} pixels of 1180 are about 30 of a hundred");
    browser.click_on(frame);
    browser.wait("frame as wide as the picture", |browser| browser.place(frame)[2] > 1100.0);
    assert_eq!(browser.evaluate("document.querySelector('g[data-n=hot]').style.display"), "none");
    keep(&mut browser, "picture-zoomed");
    browser.click_on("#reset");
    browser.wait("frame as wide as before", |browser| (browser.place(frame)[2] - narrow).abs() < 1.0);

    browser.answer = "^(hot|cool)$".to_owned();
    browser.click_on("#search");
    browser.wait("share of what was searched", |browser| text(browser, "told").contains("^(hot|cool)$: "));
    let found = share(&text(&mut browser, "told"));
    let [hot, cool, all] = ["hot", "cool", "all"].map(|name| width_of(&mut browser, name));
    assert!((found - (hot + cool) / all * 100.0).abs() < 0.1, "{found}: {hot} and {cool} of {all}");
    let hit =
        browser.evaluate("[...document.querySelectorAll('.hit')].map((g) => g.dataset.n).sort().join()");
    assert_eq!(hit, "cool,hot");
    keep(&mut browser, "picture-searched");
    browser.click_on("#search");
    browser
        .wait("picture without hits", |browser| browser.evaluate("!document.querySelector('.hit')") == true);

    surroundings.run(&["diff", "a.svg", "a.svg", "-o", "b.svg"]).ok();
    browser.open(&surroundings.path("b.svg"));
    browser.click_on("g[data-n=hot] rect");
    browser.wait("frame as wide as the picture", |browser| browser.place("g[data-n=hot] rect")[2] > 1100.0);
    keep(&mut browser, "difference");
    assert_eq!(browser.errors, [""; 0]);
}

/// The middle of the first box of the graph of this name, found by pointing at it as a person would.
fn find_in_graph(browser: &mut Chromium, function: &str) -> Option<(f64, f64)> {
    let [left, top, width, height] = browser.place("#graph");
    for row in 0..(height / 18.0) as usize {
        for column in 0..24 {
            let (x, y) =
                (left + width * (f64::from(column) + 0.5) / 24.0, top + height - 11.0 - row as f64 * 18.0);
            browser.point(x, y);
            if text(browser, "told").starts_with(&format!("{function} in ")) {
                return Some((x, y));
            }
        }
    }
    None
}

#[test]
fn the_page_can_be_zoomed_searched_and_turned() {
    let target = steady();
    let surroundings = Surroundings::new();
    surroundings.run(&["record", &name(&target), "-d", "3", "-r", "499", "-o", "a.html"]).ok();
    let mut browser = Chromium::start();
    browser.open(&surroundings.path("a.html"));
    // The whole of the hint can be read.
    assert_eq!(browser.evaluate("(() => { const b = document.getElementById('search'), c = document.createElement('canvas').getContext('2d'); \
         c.font = getComputedStyle(b).font; return c.measureText(b.placeholder).width + 24 < b.clientWidth; })()"), true);
    keep(&mut browser, "page");
    let (x, y) = find_in_graph(&mut browser, "hot").expect("a box of `hot`");
    browser.click(x, y);
    // Zoomed, it is all that is to be seen at its level.
    let [left, _, width, _] = browser.place("#graph");
    browser.wait("box as wide as the page", |browser| {
        [left + 5.0, left + width - 5.0].into_iter().all(|x| {
            browser.point(x, y);
            text(browser, "told").starts_with("hot in ")
        })
    });
    browser.click_on("#reset");

    browser.click_on("#search");
    browser.type_in("^(hot|cool)$");
    browser.wait("share of what was searched", |browser| text(browser, "share").contains("pass what fits"));
    let found = share(&text(&mut browser, "share"));
    keep(&mut browser, "page-searched");
    browser.click_on("[data-view=table]");
    let shown = browser.evaluate("[...document.querySelectorAll('#table tr td:nth-child(3)')].map((cell) => cell.textContent).sort().join()");
    assert_eq!(shown, "cool,hot");
    let sum = browser.evaluate("[...document.querySelectorAll('#table td:nth-child(2)')].reduce((sum, cell) => sum + parseFloat(cell.textContent), 0)");
    assert!((found - sum.as_f64().unwrap()).abs() < 0.1, "{found} are not {sum}");
    browser.click_on("#reset");
    for view in ["callers", "icicle", "flame"] {
        browser.click_on(&format!("[data-view={view}]"));
        let pressed = browser.evaluate("document.querySelector('[aria-pressed=true]').dataset.view");
        assert_eq!(pressed, view);
        assert!(find_in_graph(&mut browser, "hot").is_some(), "{view}");
    }
    // A span of time in which there is less.
    let whole = browser.evaluate("document.getElementById('told').textContent");
    let [left, top, width, _] = browser.place("#timeline");
    browser.drag((left + 200.0, top + 8.0), (left + width / 2.0, top + 8.0));
    assert!(find_in_graph(&mut browser, "hot").is_some());
    assert_ne!(browser.evaluate("document.getElementById('told').textContent"), whole);
    keep(&mut browser, "page-span");
    assert_eq!(browser.errors, [""; 0]);
}
