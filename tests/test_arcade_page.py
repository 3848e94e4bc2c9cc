"""The page in real Chromium: what it shows moves, what is clicked and typed happens, and everything has a name."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import numpy as np
import pytest
from run_cases import ENV, write_run

from bench.browser import chromium, executable, shown
from deploy.players import make_player
from deploy.replay import save_replay
from deploy.replaying import REPLAY, played_with, record_episode
from rl.games import ScalarGame

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[browser]'")
expect = sync_api.expect
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(executable() is None, reason="Chromium is not installed: apt install chromium"),
]
WAIT_MS = 60_000
SIZES = [(390, 844), (820, 1180), (1440, 900), (3840, 2160)]
PICTURE = "document.querySelector('#game').toDataURL()"
VOTES = "[...document.querySelectorAll('#votes .n')].map(n => n.textContent)"
# Colours of the game's canvas, and whether every pixel of the game is one block of one colour.
SHARP = """() => {
  const canvas = document.querySelector('#game'), {width, height} = canvas;
  const data = new Uint32Array(canvas.getContext('2d').getImageData(0, 0, width, height).data.buffer);
  const across = width / 160, down = height / 210;
  let blocks = Number.isInteger(across) && Number.isInteger(down);
  for (let y = 0; y < height && blocks; y++) for (let x = 0; x < width; x++) {
    const corner = data[Math.floor(y / down) * down * width + Math.floor(x / across) * across];
    if (data[y * width + x] !== corner) { blocks = false; break; }
  }
  return [new Set(data).size, blocks];
}"""


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for game in ("Pong", "Breakout"):
        write_run(root, game)
    game = ScalarGame("Pong", ENV, 5)
    player = make_player("chip", "Pong", game.actions, str(root), 5, frozenset)
    played = played_with("Pong", "chip", None, ENV, 5, game.actions, {})
    replay = record_episode(game, player, played, 60)
    thought = replay.thought ^ (np.arange(60) == 9).astype(np.uint16)
    save_replay(replay, root / "Pong" / "play" / "a-run" / REPLAY)
    save_replay(replace(replay, thought=thought), root / "Pong" / "play" / "altered" / REPLAY)
    with shown(root, "game=Pong") as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture
def page(browser, url):
    """The page, playing Pong by its whole chip; what it says on its console must be nothing."""
    own = browser.new_page(viewport={"width": 1440, "height": 900})
    said = []
    own.on("console", lambda message: said.append(message.text))
    own.on("pageerror", lambda error: said.append(str(error)))
    own.set_default_timeout(WAIT_MS)
    expect.set_options(timeout=WAIT_MS)
    own.goto(url)
    expect(own.locator("#link")).to_have_text("live")
    if own.locator("#games").input_value() != "Pong":
        own.select_option("#games", "Pong")
        expect(own.locator("#title")).to_contain_text("Pong")
    button(own, "Heal").click()
    if button(own, "Pause").get_attribute("aria-pressed") == "true":
        button(own, "Pause").click()
    button(own, "chip").click()
    expect(own.locator("#who")).to_have_text("chip plays")
    yield own
    own.close()
    assert said == []


def button(page, name):
    return page.locator("#controls button, .wounds button").filter(has_text=name).first


def changes(page, expression):
    """Wait until it has another value."""
    before = page.evaluate(expression)
    wait(lambda: page.evaluate(expression) != before)


def wait(happened):
    for _ in range(WAIT_MS // 50):
        if happened():
            return
        time.sleep(0.05)
    raise AssertionError(f"not in {WAIT_MS / 1000:g} s")


def test_the_picture_moves_in_sharp_equal_pixels(page):
    changes(page, PICTURE)
    colours, blocks = page.evaluate(SHARP)
    assert 2 <= colours <= 128 and blocks


def test_a_mouse_switches_players_in_mid_game(page):
    for name, told in [("student", "student plays"), ("teacher", "teacher plays"), ("random", "random plays"),
                       ("you", "you play"), ("chip", "chip plays")]:  # fmt: skip
        button(page, name).click()
        expect(page.locator("#who")).to_have_text(told)
        expect(button(page, name)).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#no-chip")).to_be_visible(visible=name != "chip")
        changes(page, PICTURE)


def test_a_drag_over_the_mesh_kills_cores_and_changes_the_votes_until_healed(page):
    wait(lambda: any(vote != "0" for vote in page.evaluate(VOTES)))
    box = page.locator("#mesh").bounding_box()
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] - 2, steps=4)
    page.mouse.up()
    wait(lambda: page.evaluate(VOTES) == ["0"] * 6)
    expect(page.locator("#dead-is")).to_contain_text("cores are dead")
    page.keyboard.press("h")
    expect(page.locator("#dead-is")).to_have_text("no core is dead")
    wait(lambda: any(vote != "0" for vote in page.evaluate(VOTES)))


def test_a_click_kills_one_core(page):
    where = page.evaluate("""() => new Promise(done => {
      const mesh = document.querySelector('#mesh'), box = mesh.getBoundingClientRect();
      for (let y = 0; y < 64; y++) for (let x = 0; x < 64; x++) {
        const at = {clientX: box.left + (x + .5) * box.width / 64, clientY: box.top + (y + .5) * box.height / 64};
        mesh.dispatchEvent(new PointerEvent('pointermove', at));
        if (!document.querySelector('#cell').textContent.endsWith('free')) return done([at.clientX, at.clientY]);
      }
      done(null);
    })""")
    page.mouse.click(*where)
    expect(page.locator("#dead-is")).to_have_text("1 core is dead")
    expect(page.locator("#cell")).to_contain_text("dead")


def test_dropped_spikes_change_the_votes_of_a_picture_that_stands_still(page):
    slider = page.get_by_label("dropped spikes")
    slider.focus()
    page.keyboard.press("End")
    expect(page.locator("#lost-is")).to_have_text("50 %")
    page.keyboard.press("Home")
    expect(page.locator("#lost-is")).to_have_text("0 %")


def test_the_keyboard_alone_does_all_that_the_mouse_does(page):
    for key, told in [("3", "student plays"), ("8", "random plays"), ("1", "chip plays")]:
        page.keyboard.press(key)
        expect(page.locator("#who")).to_have_text(told)
    page.keyboard.press("p")
    expect(page.locator("#dps")).to_have_text("paused")
    before = page.evaluate(PICTURE)
    time.sleep(0.5)
    assert page.evaluate(PICTURE) == before
    page.keyboard.press("n")
    changes(page, PICTURE)
    page.keyboard.press("p")
    expect(page.locator("#dps")).not_to_have_text("paused")
    page.keyboard.press("+")
    expect(page.locator("#speeds [data-value='2']")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("-")
    expect(page.locator("#speeds [data-value='1']")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("w")
    assert page.locator("#wave").input_value() == "slow"
    page.keyboard.press("r")
    expect(page.locator("#episode")).to_have_text("1")


def test_keys_on_the_mesh_mark_and_kill(page):
    page.keyboard.press("m")
    assert page.evaluate("document.activeElement.id") == "mesh"
    page.keyboard.press("ArrowUp")
    for key in ["Shift+ArrowRight"] * 40 + ["Shift+ArrowDown"] * 40:
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    expect(page.locator("#dead-is")).not_to_have_text("no core is dead")
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") != "mesh", "focus is never trapped"


def test_every_control_is_reached_by_tab(page):
    wanted = page.evaluate("[...document.querySelectorAll('button, select, input, canvas[tabindex]')]"
                           ".filter(e => e.offsetParent && !e.closest('dialog')).length")  # fmt: skip
    page.locator("body").click(position={"x": 700, "y": 20})
    focused, reached = "document.activeElement.id || document.activeElement.dataset.value || 'none'", set()
    for _ in range(wanted + 5):
        page.keyboard.press("Tab")
        reached.add(page.evaluate(focused))
    assert len(reached - {"none"}) >= wanted


def test_a_human_plays_by_arrows_and_lets_go(page):
    button(page, "you").click()
    expect(page.locator("#who")).to_have_text("you play")
    page.keyboard.down("ArrowUp")
    expect(page.locator("#votes .chosen .name")).to_have_text("right")
    page.keyboard.down("Space")
    expect(page.locator("#votes .chosen .name")).to_have_text("right + fire")
    page.keyboard.up("ArrowUp")
    page.keyboard.up("Space")
    expect(page.locator("#votes .chosen .name")).to_have_text("noop")


def test_another_game_is_chosen_and_left(page):
    page.select_option("#games", "Breakout")
    expect(page.locator("#title")).to_contain_text("Breakout")
    expect(page.locator("#votes li")).to_have_count(4)
    changes(page, PICTURE)
    page.select_option("#games", "Pong")
    expect(page.locator("#votes li")).to_have_count(6)


def test_a_replay_is_scrubbed_and_left(page):
    page.select_option("#replays", "a-run")
    expect(page.locator("#who")).to_have_text("replay a-run")
    button(page, "Pause").click()
    slider = page.get_by_role("slider", name="decision")
    slider.focus()
    page.keyboard.press("End")
    expect(page.locator("#at-is")).to_have_text("60 of 60")
    last = page.evaluate(PICTURE)
    page.keyboard.press("Home")
    expect(page.locator("#at-is")).to_have_text("1 of 60")
    wait(lambda: page.evaluate(PICTURE) != last)
    button(page, "Pause").click()
    button(page, "chip").click()
    expect(page.locator("#who")).to_have_text("chip plays")
    expect(slider).not_to_be_visible()


def test_a_replay_that_does_not_match_says_at_which_decision(page):
    page.select_option("#replays", "altered")
    expect(page.locator("#notice")).to_contain_text("diverges at decision 9 of 60")
    expect(page.locator("#who")).to_have_text("chip plays")


def test_a_replay_of_what_ships_is_shown_with_the_chip_that_it_names(page):
    page.select_option("#replays", "shipped")  # not of the chip of these tests
    expect(page.locator("#who")).to_have_text("replay shipped")
    expect(page.locator("#at-is")).to_contain_text(re.compile(r"^[2-9]\d of "))
    expect(page.locator("#notice")).not_to_be_visible()


def test_a_clip_is_recorded_and_saved(page):
    button(page, "Record").click()
    expect(button(page, "Record")).to_have_attribute("aria-pressed", "true")
    time.sleep(1.5)
    button(page, "Record").click()
    link = page.locator("#clip")
    expect(link).to_be_visible()
    with page.expect_download() as download:
        link.click()
    assert download.value.suggested_filename.startswith("Pong-clip-")
    with open(download.value.path(), "rb") as film:
        assert b"ftyp" in film.read(16)


def test_help_opens_by_key_and_letters_can_be_switched_off(page):
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    expect(dialog).to_be_visible()
    page.get_by_label("keys of one letter or digit work").uncheck()
    page.keyboard.press("Escape")
    expect(dialog).not_to_be_visible()
    page.keyboard.press("5")
    page.keyboard.press("p")
    time.sleep(0.5)
    expect(page.locator("#who")).to_have_text("chip plays")
    page.reload()
    assert not page.locator("#letters").is_checked(), "the choice is kept"
    page.evaluate("localStorage.clear()")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}")
def test_the_page_fits_and_has_names_and_contrast(page, size, scheme):
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.emulate_media(color_scheme=scheme)
    expect(page.locator("#dps")).not_to_have_text("0")
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    found = axe.run(page).response["violations"]
    assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found] == []
