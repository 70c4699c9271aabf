"""Opens pages of `dlt report` and `dlt watch` in a browser without a window, and checks what a person would see.

    pip install playwright==1.65.*        (it needs no browser download: --chromium names an installed one)
    python data/peers/check_page.py --dlt target/release/dlt --chromium /usr/bin/chromium [--out screenshots] [--work DIR]

It trains small runs in a separate folder, writes their pages and checks:

- a page of one run and a page of three, from file://, and the live page of a running run;
- that there is no message on the console, no script error, and no request except for the document (the live page also
  requests /data.json);
- that at every place of the slider the arcs are those of that line of states.jsonl, and that moving the slider moves them;
- the play button, the arrow keys, light and dark, print, and that the page does not scroll sideways at a phone's width;
- that the live page follows the run, says when the run has finished, and says what is wrong when the run is gone.

With --out it leaves pictures: light, dark, phone, print. The exit code is 0 only if every check passes.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

STEPS = 200
TRAIN = ["--preset", "smoke", "--set", "model.layers=12", "--set", "tying.decide_every=5", "--quiet"]
# A little longer than the longest animation of the map.
SETTLED_MS = 700


class Browser:
    """A browser that collects every unexpected request, console message and dialog of its pages."""

    def __init__(self, chromium):
        self.chromium = chromium
        self.complaints = []

    def page(self, url, *, allowed=(), dark=False, width=1280, height=900):
        context = self.chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        page = context.new_page()
        page.on("console", lambda said: self.complaints.append(f"{url}: console {said.type}: {said.text}"))
        page.on("pageerror", lambda error: self.complaints.append(f"{url}: {error}"))
        page.dialogs = []
        page.on("dialog", lambda dialog: (self.complaints.append(f"{url}: dialog"), dialog.dismiss()))

        def route(route, request):
            if request.url == url or request.url in allowed or request.url.startswith("data:"):
                route.continue_()
            else:
                self.complaints.append(f"{url}: requested {request.url}")
                route.abort()

        page.route("**/*", route)
        page.goto(url)
        page.wait_for_selector(".map-drawing")
        return page

    def check_silent(self):
        assert not self.complaints, "\n".join(self.complaints)


def states(run):
    """The owners before the first decision and after each, as the run recorded them."""
    header, *rows = [json.loads(line) for line in (run / "states.jsonl").read_text().splitlines()]
    initial = header.get("initial", [0] * header["n_layers"])
    return [(0, initial)] + [(row["step"], row["state"]) for row in rows]


def arcs(page, index=0):
    """The arcs of a run's map: the layer and the owner of each, and its path if it is drawn."""
    return page.evaluate(
        """index => [...document.querySelectorAll(".map")[index].querySelectorAll(".arc")].map(
            arc => [Number(arc.dataset.layer), Number(arc.dataset.owner), arc.getAttribute("d")])""",
        index,
    )


def ends(page, index=0):
    """The layers where the drawn arcs start and end, computed only from their paths."""
    return page.evaluate(
        """index => {
            const map = document.querySelectorAll(".map")[index];
            const places = [...map.querySelectorAll("g[data-layer] .dot")].map(dot => Number(dot.getAttribute("cx")));
            const nearest = x => places.reduce((best, place, layer) =>
                Math.abs(place - x) < Math.abs(places[best] - x) ? layer : best, 0);
            return [...map.querySelectorAll(".arc")].map(arc => arc.getAttribute("d")).filter(d => d).map(d => {
                const numbers = d.match(/-?[0-9.]+/g).map(Number);
                return [nearest(numbers[0]), nearest(numbers[7])];
            });
        }""",
        index,
    )


def move(page, place, index=0):
    page.evaluate(
        """([index, place]) => {
            const slider = document.querySelectorAll(".map")[index].querySelector("input[type=range]");
            slider.value = place;
            slider.dispatchEvent(new Event("input", {bubbles: true}));
        }""",
        [index, place],
    )


def check_map(page, run, index=0, frozen_at_start=True):
    recorded = states(run)
    last = int(page.locator(".map").nth(index).locator("input[type=range]").get_attribute("max"))
    assert last == len(recorded) - 1, f"the slider has {last + 1} places, the run {len(recorded)} states"
    seen = set()
    for place, (step, owners) in enumerate(recorded):
        move(page, place, index)
        page.wait_for_timeout(SETTLED_MS if place in (0, 1, last) else 20)
        shown = arcs(page, index)
        if place == 0 and frozen_at_start:
            assert all(layer == owner for layer, owner, _ in shown), "frozen layers have no arc"
        else:
            assert [owner for _, owner, _ in shown] == owners, f"step {step}: {shown}, recorded {owners}"
        if place in (1, last):
            drawn = sorted(map(tuple, ends(page, index)))
            expected = sorted((owner, layer) for layer, owner in enumerate(owners) if owner != layer)
            assert drawn == expected, f"step {step}: arcs {drawn}, recorded {expected}"
        words = page.locator(".map").nth(index).locator(".map-step").inner_text()
        assert f"Step {step:,}" in words, words
        seen.add(json.dumps(shown))
    assert len(seen) > 1, "the map never changed"


def check_controls(page):
    frame = page.locator(".map").first
    slider, play = frame.locator("input[type=range]"), frame.locator("button.play")
    last = int(slider.get_attribute("max"))
    slider.focus()
    page.keyboard.press("Home")
    assert slider.input_value() == "0"
    page.keyboard.press("ArrowRight")
    assert slider.input_value() == "1" and "decision 1 of" in slider.get_attribute("aria-valuetext")
    play.click()
    page.wait_for_timeout(2500)
    assert "Pause" in play.inner_text() or slider.input_value() == str(last)
    assert int(slider.input_value()) > 1, "the play button plays"
    if "Pause" in play.inner_text():
        play.click()
    held = slider.input_value()
    page.wait_for_timeout(1000)
    assert slider.input_value() == held, "the pause button stops it"
    page.keyboard.press("Tab")
    frame.get_by_label("One decision back").click()
    assert int(slider.input_value()) == int(held) - 1


def ground(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def check_themes(browser, url):
    light = browser.page(url)
    before = ground(light)
    light.locator("#theme").click()
    assert ground(light) != before, "the button turns the page dark"
    assert light.locator("#theme").get_attribute("aria-pressed") == "true"
    light.locator("#theme").click()
    assert ground(light) == before
    dark = browser.page(url, dark=True)
    assert ground(dark) != before, "a dark system gets a dark page"
    dark.emulate_media(media="print")
    assert ground(dark) == before, "paper is white"
    assert not dark.locator("#theme").is_visible() and not dark.locator(".controls").first.is_visible()


def check_widths(browser, url):
    for width in (360, 390, 768, 1280, 1920):
        page = browser.page(url, width=width)
        over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert over <= 0, f"{width} pixels: the page scrolls sideways by {over}"
        page.context.close()


def check_names(page):
    """Checks that every control has a name, every figure has a text, and headings do not skip a level."""
    nameless = page.evaluate(
        """[...document.querySelectorAll("button, input, a, summary, figure")].filter(element =>
            !(element.getAttribute("aria-label") || element.innerText || "").trim()).map(element => element.outerHTML)"""
    )
    assert not nameless, nameless
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(heading => Number(heading.tagName[1]))")
    assert levels[0] == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:])), levels
    twice = page.evaluate(
        """(ids => ids.filter((id, index) => ids.indexOf(id) !== index))(
            [...document.querySelectorAll("[id]")].map(element => element.id))"""
    )
    assert not twice, f"ids used twice: {twice}"


def picture(page, out, name):
    if out:
        page.wait_for_timeout(SETTLED_MS)
        page.screenshot(path=out / f"{name}.png", full_page=True)


def pictures(browser, url, name, out):
    if not out:
        return
    picture(browser.page(url), out, f"{name}-light")
    picture(browser.page(url, dark=True), out, f"{name}-dark")
    picture(browser.page(url, width=390, height=844), out, f"{name}-phone")
    page = browser.page(url)
    page.pdf(path=out / f"{name}-print.pdf", format="A4")


def check_files(browser, dlt, work, out):
    runs = [work / "tied", work / "conventional", work / "random"]
    train(dlt, runs[0])
    train(dlt, runs[1], "--set", "agent.policy=none", "--set", "tying.initial=independent")
    train(dlt, runs[2], "--set", "agent.policy=random")
    subprocess.run([dlt, "report", runs[0]], check=True, capture_output=True)
    url = (runs[0] / "report.html").as_uri()
    page = browser.page(url)
    check_map(page, runs[0])
    check_controls(page)
    check_names(page)
    check_themes(browser, url)
    check_widths(browser, url)
    pictures(browser, url, "report", out)
    together = work / "compared.html"
    subprocess.run([dlt, "report", *runs, "--out", together], check=True, capture_output=True)
    page = browser.page(together.as_uri())
    assert page.locator("article.run").count() == 3
    check_map(page, runs[2], index=2)
    check_names(page)
    check_widths(browser, together.as_uri())
    pictures(browser, together.as_uri(), "compared", out)
    browser.check_silent()
    for file in (runs[0] / "report.html", together):
        assert file.stat().st_size < 1_000_000, f"{file}: {file.stat().st_size} bytes"


def train(dlt, run, *more):
    subprocess.run([dlt, "train", *TRAIN, "--steps", str(STEPS), "--out", run, *more], check=True, capture_output=True)


def check_live(browser, dlt, work, out):
    run = work / "live"
    # Long enough that the page opens while the run is still training.
    training = subprocess.Popen(
        [dlt, "train", *TRAIN, "--steps", "1500", "--out", run, "--set", "evaluation.every_steps=100"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )
    watching = None
    try:
        wait_for(lambda: (run / "states.jsonl").is_file() and len((run / "states.jsonl").read_text().splitlines()) > 2)
        watching = subprocess.Popen([dlt, "watch", run, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        url = watching.stdout.readline().strip()
        page = browser.page(url, allowed=[url + "data.json"])
        steps = lambda: int(page.evaluate("document.documentElement.dataset.steps || 0"))
        wait_for(lambda: steps() > 0, page)
        first = steps()
        assert training.poll() is None, "the run ended before the page opened: make it longer"
        page.locator("details").first.locator("summary").click()
        wait_for(lambda: steps() > first, page)
        assert page.locator("details").first.get_attribute("open") is not None, "an unfolded section stays unfolded"
        assert "Step" in page.locator(".status").inner_text()
        picture(page, out, "live")
        training.send_signal(signal.SIGINT)
        training.wait(60)
        # A resumed run cuts its metrics back to the checkpoint and continues.
        subprocess.run(
            [dlt, "train", "--resume", run, "--steps", str(steps() + 120), "--quiet"], check=True, capture_output=True
        )
        wait_for(lambda: "Finished" in page.locator(".status").inner_text(), page)
        check_map(page, run)
        check_names(page)
        browser.check_silent()
        shutil.rmtree(run)
        wait_for(lambda: "cannot be read" in page.locator("#notice").inner_text(), page)
        assert page.locator(".arc").count() == 12, "the last known state stays on the page"
        picture(page, out, "live-gone")
        browser.check_silent()
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 0
        page.wait_for_selector("#connection:not([hidden])", timeout=20_000)
    finally:
        for process in (training, watching):
            if process and process.poll() is None:
                process.kill()
                process.wait()


def wait_for(fact, page=None, seconds=60):
    until = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < until, f"not within {seconds} s: {fact}"
        page.wait_for_timeout(100) if page else time.sleep(0.1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dlt", type=Path, required=True, help="the program")
    parser.add_argument("--chromium", required=True, help="an installed Chromium or Chrome")
    parser.add_argument("--out", type=Path, help="folder for pictures")
    parser.add_argument("--work", type=Path, help="folder for the runs, which is kept [default: a temporary folder]")
    given = parser.parse_args()
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
    dlt = given.dlt.resolve()
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        work = (given.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        # Chromium's sandbox needs rights that containers lack. It is safe to switch off, because only our pages are opened.
        chromium = playwright.chromium.launch(executable_path=given.chromium, args=["--no-sandbox"])
        for check in (check_files, check_live):
            check(Browser(chromium), dlt, work, given.out)
            print(f"{check.__name__}: good", flush=True)
        chromium.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
