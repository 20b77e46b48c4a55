"""Names: built in, from other packages, and from files."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wronglung import load_suite
from wronglung.adapters.floors import uniform
from wronglung.benchmark import models
from wronglung.benchmark.arguments import check_arguments
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.registry import MODELS, PERTURBATIONS, SUBSETS, Entry, Registry
from wronglung.tasks.schema import list_definitions

Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a package that consists of entry points and one module ``plugin_module``."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(package: str, entry_points: str) -> None:
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(entry_points)

    (tmp_path / "plugin_module.py").write_text(
        "from pathlib import Path\n"
        "SUITE = Path(__file__).with_name('theirs.yaml')\n"
        "def model(): return 'theirs'\n"
        "def first_half(pool): return frozenset(one.id for one in pool.instances[: len(pool.instances) // 2])\n"
    )
    (tmp_path / "theirs.yaml").write_text(
        'name: theirs\nversion: "1.0"\ndescription: Theirs.\ntasks: [original]\nsubsets: [first_half]\nmetrics: [auroc]\n'
    )
    return install


def test_built_in_names_are_found() -> None:
    for registry in (MODELS, PERTURBATIONS, SUBSETS):
        for row in registry.listed():
            assert callable(registry.get(row.name))


def test_other_packages_add_names(install: Install) -> None:
    install("theirs", "[wronglung.models]\ntheir-model = plugin_module:model\n")
    row = next(row for row in MODELS.listed() if row.name == "their-model")
    assert (row.origin, row.summary) == ("theirs", "plugin_module:model")
    assert MODELS.get("their-model")() == "theirs"


def test_other_packages_add_suites_and_subsets(install: Install) -> None:
    install(
        "theirs",
        "[wronglung.suites]\ntheirs = plugin_module:SUITE\n[wronglung.subsets]\nfirst_half = plugin_module:first_half\n",
    )
    assert load_suite("theirs").subsets[0].name == "first_half"
    assert ("theirs", "theirs") in {(row.name, row.origin) for row in list_definitions("suite")}


def test_a_name_claimed_twice_is_refused_but_listed(install: Install) -> None:
    install("theirs", "[wronglung.models]\nuniform = plugin_module:model\n")
    with pytest.raises(WronglungError, match="model 'uniform' is claimed by wronglung and theirs; uninstall one"):
        MODELS.get("uniform")
    assert any("clashes" in row.summary for row in MODELS.listed())
    assert MODELS.get("random")


def test_a_broken_plug_in_stops_only_those_who_ask_for_it(install: Install) -> None:
    install("broken", "[wronglung.models]\nbroken = no_such_module:model\n")
    assert MODELS.get("uniform")
    assert any(row.name == "broken" for row in MODELS.listed())
    with pytest.raises(WronglungError, match=r"model 'broken' \(no_such_module:model\) cannot be imported"):
        MODELS.get("broken")


def test_unknown_names_suggest_near_ones() -> None:
    with pytest.raises(WronglungError, match="unknown model 'glorai'; did you mean gloria"):
        MODELS.get("glorai")
    with pytest.raises(WronglungError, match="unknown subset 'xyz'; known: all, abnormal"):
        SUBSETS.get("xyz")


def test_files_may_hold_dataclasses_and_share_a_name(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.py").write_text(
            "from __future__ import annotations\nfrom dataclasses import dataclass\n"
            f"@dataclass\nclass Model:\n    name: str = {folder!r}\n"
        )
    names = [MODELS.get(f"{tmp_path / folder / 'model.py'}:Model")().name for folder in ("a", "b")]
    assert names == ["a", "b"]


def test_files_that_cannot_be_imported_say_why(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import no_such_module\n")
    with pytest.raises(WronglungError, match="bad.py cannot be imported: ModuleNotFoundError"):
        MODELS.get(f"{tmp_path / 'bad.py'}:Model")


def test_an_argument_of_a_factory_may_be_called_name(tmp_path: Path) -> None:
    from wronglung import load_model

    (tmp_path / "mine.py").write_text(
        "from wronglung.adapters.floors import uniform\n"
        "def make(name: str = 'x'):\n"
        "    model = uniform()\n"
        "    model.asked = name\n"
        "    return model\n"
    )
    assert load_model(f"{tmp_path / 'mine.py'}:make", name="ours").asked == "ours"


class TestPresetsAndShorthand:
    @pytest.fixture
    def registry(self, monkeypatch: pytest.MonkeyPatch) -> Registry:
        """One family that takes a model's name, and a preset of it."""

        def load(model: str, method: str = "value", tau: float = 0.07) -> tuple[str, str, float]:
            """A family."""
            return model, method, tau

        module = types.ModuleType("made_up_catalogue")
        vars(module)["load"] = load
        vars(module)["CATALOGUE"] = {
            "family": Entry("made_up_catalogue:load", "a family", asks=("weights",)),
            "preset": Entry("made_up_catalogue:load", "a preset", preset={"model": "B-16", "tau": 0.5}),
        }
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return Registry("model", "wronglung.models", "made_up_catalogue:CATALOGUE")

    def test_a_preset_binds_arguments_which_can_be_overridden(self, registry: Registry) -> None:
        assert registry.get("preset")() == ("B-16", "value", 0.5)
        assert registry.get("preset")(tau=1.0) == ("B-16", "value", 1.0)

    def test_what_follows_a_known_name_is_split_off(self, registry: Registry) -> None:
        assert registry.split("family:B-16/openai") == ("family", "B-16/openai")
        assert registry.split("family:hub:owner/name") == ("family", "hub:owner/name")
        for whole in ("family", "unknown:B-16", "some/file.py:Class", "family.py:Class"):
            assert registry.split(whole) == (whole, None)

    def test_a_list_says_what_is_missing(self, registry: Registry) -> None:
        assert [(row.name, row.missing) for row in registry.listed()][:2] == [("family", "weights=..."), ("preset", "")]

    def test_arguments_of_a_preset_are_converted_and_checked(self, registry: Registry) -> None:
        preset = registry.get("preset")
        assert check_arguments(preset, {"tau": "0.1"}, ["model", "method", "tau"], "model")["tau"] == 0.1
        with pytest.raises(WronglungError, match="tau"):
            check_arguments(preset, {"tau": "much"}, ["model", "method", "tau"], "model")

    def test_load_model_takes_the_short_form(self, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        made = []

        def load(model: str, method: str = "value") -> Any:
            made.append((model, method))
            return uniform()

        vars(sys.modules["made_up_catalogue"])["load"] = load
        monkeypatch.setattr(models, "MODELS", registry)
        models.load_model("family:B-16/openai", method="naive")
        assert made == [("B-16/openai", "naive")]
        vars(sys.modules["made_up_catalogue"])["load"] = uniform
        with pytest.raises(WronglungError, match=r"model 'family': takes no arguments; leave ':B-16' out"):
            models.load_model("family:B-16")

    def test_a_preset_says_its_version_and_what_was_changed(self, registry: Registry) -> None:
        known = vars(sys.modules["made_up_catalogue"])["CATALOGUE"]
        known["pinned"] = known["preset"]._replace(version="2.1")
        assert registry.preset("pinned", {"model": "B-16", "tau": 0.5}) == {"preset": "pinned 2.1"}
        assert registry.preset("pinned", {"model": "B-16", "tau": 1.0}) == {"preset": "pinned 2.1, but for tau"}
        assert registry.preset("family", {}) == {}

    def test_a_short_value_is_the_argument_that_is_asked_for(self, registry: Registry) -> None:
        assert registry.first_argument("family", ["model", "weights"]) == "weights"
        assert registry.first_argument("preset", ["model", "weights"]) == "model"

    def test_a_file_without_a_name_in_it(self) -> None:
        with pytest.raises(WronglungError, match=r"name the class or function in the file, some\.py:NAME"):
            MODELS.get("some.py")

    def test_a_file_imports_what_lies_beside_it(self, tmp_path: Path) -> None:
        (tmp_path / "a_neighbour_of_ours.py").write_text("VALUE = 3")
        (tmp_path / "mine.py").write_text("from a_neighbour_of_ours import VALUE")
        assert MODELS.get(f"{tmp_path / 'mine.py'}:VALUE") == 3
