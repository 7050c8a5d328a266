//! Opens a page in a headless browser and measures it. What a report must look like there is in
//! `check`; which report, is up to the tests.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Long, because a busy machine starts a browser slowly.
const PATIENCE: Duration = Duration::from_secs(180);

/// Runs before anything else in the page.
const HEAD_HOOK: &str = r##"<script>
window.errors = [];
addEventListener("error", (event) => errors.push(String(event.message)));
console.error = (...words) => errors.push(words.join(" "));
</script>"##;

/// Measures the page and tells the frame's parent.
const BODY_HOOK: &str = r##"<script>
document.fonts.ready.then(() => {
  const visible = (element) => element.getBoundingClientRect().width > 0;
  const plots = [...document.querySelectorAll("figure")].map((figure) => {
    const shown = [...figure.querySelectorAll(".plot svg")].filter(visible);
    const box = shown[0]?.getBoundingClientRect();
    return [figure.id, shown.length, box?.width ?? 0, box?.height ?? 0];
  });
  const cut = [...document.querySelectorAll(".plot svg")].filter(visible).flatMap((svg) => {
    const outer = svg.getBoundingClientRect();
    return [...svg.querySelectorAll("text")].filter((text) => {
      const box = text.getBoundingClientRect();
      return box.left < outer.left - 1 || box.right > outer.right + 1 ||
        box.top < outer.top - 1 || box.bottom > outer.bottom + 1;
    }).map((text) => text.textContent.trim());
  });
  const line = [...document.querySelectorAll("#timeline .plot")].find(visible);
  const box = line.getBoundingClientRect();
  const at = { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2 };
  line.dispatchEvent(new PointerEvent("pointermove", at));
  parent.postMessage(JSON.stringify({
    width: innerWidth, errors, plots, cut,
    overflow: document.documentElement.scrollWidth - innerWidth,
    font: document.fonts.check("14px Inter"),
    toggles: document.querySelectorAll(".toggles input").length,
    readout: document.querySelector(".readout").textContent,
  }), "*");
});
</script>"##;

/// Two windows on the page, and a place for what they tell.
const FRAMES: &str = r##"<!doctype html><meta charset="utf-8"><pre id="results"></pre><script>
const told = [];
addEventListener("message", (event) => {
  told.push(JSON.parse(event.data));
  if (told.length === 2) document.getElementById("results").textContent = JSON.stringify(told);
});
</script>
<iframe src="check.html" width="1200" height="900"></iframe>
<iframe src="check.html" width="390" height="800"></iframe>"##;

/// The browser to use, if there is one.
pub(crate) fn browser() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("QUORATE_BROWSER") {
        return Some(PathBuf::from(named));
    }
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|candidate| candidate.exists())
}

/// The page's document after its scripts ran.
fn dump(browser: &Path, page: &Path, profile: &Path) -> String {
    let mut child = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--allow-file-access-from-files", "--window-size=1700,1000"])
        .args(["--virtual-time-budget=20000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).map(|_| text)
    });
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the browser took longer than {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    reader.join().unwrap().unwrap()
}

/// What each frame told.
pub(crate) fn look(browser: &Path, html: &str) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let hooked = html.replacen("<head>", &format!("<head>{HEAD_HOOK}"), 1).replacen(
        "</body>",
        &format!("{BODY_HOOK}</body>"),
        1,
    );
    fs::write(folder.path().join("check.html"), hooked).unwrap();
    let page = folder.path().join("frames.html");
    fs::write(&page, FRAMES).unwrap();
    let dom = dump(browser, &page, &folder.path().join("profile"));
    let results =
        dom.split_once("<pre id=\"results\">").and_then(|(_, rest)| rest.split_once("</pre>"));
    let (results, _) = results.expect("the page has its place for results");
    let results = results.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    serde_json::from_str(&results).unwrap_or_else(|error| panic!("{error}: {results:?}"))
}

/// Fails when anything of a frame is not as it should be, or it has not so many plots and toggles.
pub(crate) fn check(frame: &Value, wanted: (usize, usize)) {
    let width = &frame["width"];
    assert_eq!(frame["errors"], Value::Array(Vec::new()), "at width {width}");
    assert_eq!(frame["cut"], Value::Array(Vec::new()), "text is cut off at width {width}");
    assert!(frame["overflow"].as_i64().unwrap() <= 0, "scrolls sideways at width {width}: {frame}");
    assert_eq!(frame["font"], true, "the bundled font is not in use at width {width}");
    let plots = frame["plots"].as_array().unwrap();
    assert_eq!(plots.len(), wanted.0, "{plots:?}");
    for plot in plots {
        assert_eq!(plot[1], 1, "one form of {} is shown at width {width}", plot[0]);
        let size = [plot[2].as_f64().unwrap(), plot[3].as_f64().unwrap()];
        assert!(size[0] > 250.0 && size[1] > 80.0, "{} is {size:?} at width {width}", plot[0]);
    }
    assert_eq!(frame["toggles"], wanted.1);
}
