"""Options as data: bounds, relations and the one check, on dataclasses made for the purpose."""

from dataclasses import dataclass
from math import inf, nan
from types import SimpleNamespace
from typing import Optional

import pytest

from fairseq_seqvae.options import (
    ANY_NUMBER,
    Relation,
    above,
    at_least,
    at_most,
    between,
    check,
    flag,
    option,
    options_of,
    relations_of,
    whole_numbers,
)


@dataclass
class Sizes:
    layers: int = option(1, "number of layers", at_least(1))
    lower_size: int = option(4, "size of the lower layer", at_least(0), {0: "no lower layer"}, group="Sizes")
    upper_size: int = option(3, "size of the upper layer", at_least(0))
    rate: Optional[float] = option(None, "learning rate", at_least(0))
    name: str = option("a", "name of the whole")
    plain: int = 5

    RELATIONS = [
        Relation(
            ("upper_size", "lower_size"),
            lambda upper, lower: upper <= lower,
            "--upper-size {upper_size} is above --lower-size {lower_size}: lower it.",
        )
    ]


@dataclass
class Preset(Sizes):
    layers: int = 7
    lower_size: int = 9


@dataclass
class Extended(Preset):
    weight: float = option(0.0, "weight of the term", ANY_NUMBER, {0: "off"})

    RELATIONS = [Relation(("weight", "layers"), lambda weight, layers: weight < layers, "--weight is too large.")]


# bound -> what it says, values inside, values outside with what they are told
BOUNDS = {
    at_least(1): ("at least 1", [1, 1.0, 1e300], {0: "be at least 1", 0.999: "be at least 1", -inf: "be finite"}),
    above(0): ("above 0", [1e-300, 1], {0: "be above 0", -1: "be above 0", inf: "be finite", nan: "be finite"}),
    above(0, infinite=True): ("above 0", [1, inf], {0: "be above 0", nan: "be above 0", -inf: "be above 0"}),
    at_most(1): ("at most 1", [1, -5], {1.5: "be at most 1", inf: "be finite", nan: "be finite"}),
    between(0, 1): ("in [0, 1]", [0, 1, 0.5], {-0.1: "lie in [0, 1]", 1.1: "lie in [0, 1]", inf: "lie in [0, 1]"}),
    between(0, 1, low_open=True): ("in (0, 1]", [1e-9, 1], {0: "lie in (0, 1]", nan: "lie in (0, 1]"}),
    between(0, 1, high_open=True): ("in [0, 1)", [0, 0.99], {1: "lie in [0, 1)", -inf: "lie in [0, 1)"}),
    ANY_NUMBER: ("of any size", [0, -1e9, 3], {inf: "be finite", nan: "be finite", "x": "be a number"}),
}


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_bounds(bound):
    words, inside, outside = BOUNDS[bound]
    assert str(bound) == words
    assert all(value in bound for value in inside)
    for value, demand in outside.items():
        assert value not in bound
        assert bound.demand(value).startswith(f"must {demand}")


class TestCheck:
    def test_defaults_pass(self):
        for config in (Sizes, Preset, Extended):
            check(config(), config)

    @pytest.mark.parametrize(
        "values, message",
        [
            ({"layers": 0}, r"^--layers must be at least 1 but is 0\.$"),
            ({"lower_size": -1}, r"^--lower-size must be at least 0 but is -1 \(0: no lower layer\)\.$"),
            ({"rate": nan}, r"^--rate must be finite but is nan\.$"),
            ({"rate": "fast"}, r"^--rate must be a number but is fast\.$"),
            ({"layers": None}, r"^--layers must be a number but is None\.$"),
            ({"upper_size": 5}, r"^--upper-size 5 is above --lower-size 4: lower it\.$"),
            # bounds first
            ({"upper_size": 5, "layers": 0}, r"^--layers must"),
        ],
    )
    def test_message_names_the_flag_as_typed_the_value_and_the_bound(self, values, message):
        with pytest.raises(ValueError, match=message):
            check(SimpleNamespace(**vars(Sizes()) | values), Sizes)

    def test_none_is_a_value_only_where_it_is_the_default(self):
        check(Sizes(rate=None), Sizes)
        check(Sizes(rate=0.5), Sizes)

    def test_presets_keep_bounds_and_relations(self):
        check(Preset(upper_size=9), Preset)
        with pytest.raises(ValueError, match="--layers must be at least 1 but is 0"):
            check(Preset(layers=0), Preset)
        with pytest.raises(ValueError, match="--upper-size 10 is above --lower-size 9"):
            check(Preset(upper_size=10), Preset)

    def test_relations_of_the_base_come_first_and_those_of_the_subclass_too(self):
        assert [relation.names[0] for relation in relations_of(Extended)] == ["upper_size", "weight"]
        with pytest.raises(ValueError, match="--upper-size"):
            check(Extended(upper_size=10, weight=8), Extended)
        with pytest.raises(ValueError, match="--weight is too large"):
            check(Extended(weight=8), Extended)

    def test_options_that_the_config_lacks_are_not_checked(self):
        check(SimpleNamespace(), Extended)
        check(SimpleNamespace(upper_size=99), Sizes)
        with pytest.raises(ValueError, match="--layers"):
            check(SimpleNamespace(layers=-1), Sizes)

    def test_a_value_from_elsewhere_joins_a_relation(self):
        @dataclass
        class Drawn:
            draws: int = option(1, "number of draws", at_least(1))
            RELATIONS = [Relation(("draws", "split"), lambda n, split: split is None or n > 1, "{split}: {draws}")]

        check(Drawn(), Drawn)
        check(Drawn(), Drawn, split=None)
        check(Drawn(2), Drawn, split="walk")
        with pytest.raises(ValueError, match="^walk: 1$"):
            check(Drawn(), Drawn, split="walk")

    def test_nodes_of_omegaconf(self):
        omegaconf = pytest.importorskip("omegaconf")
        node = omegaconf.OmegaConf.structured(Preset)
        check(node, Preset)
        node.lower_size = 2
        with pytest.raises(ValueError, match="--upper-size 3 is above --lower-size 2"):
            check(node, Preset)
        node.layers = 0
        with pytest.raises(ValueError, match="--layers must be at least 1 but is 0"):
            check(node, Preset)

    def test_values_that_no_bound_asks_for_are_not_read(self):
        """An option of another group may have no value yet."""

        class Cfg:
            layers, lower_size, upper_size, rate = 1, 1, 1, None

            @property
            def name(self):
                raise RuntimeError("no value")

        check(Cfg(), Sizes)


def test_options_are_listed_in_their_order_with_the_default_of_the_preset():
    listed = {current.name: (current.default, known.text) for current, known in options_of(Preset)}
    assert list(listed) == ["layers", "lower_size", "upper_size", "rate", "name"]
    assert listed["layers"] == (7, "number of layers") and listed["name"] == ("a", "name of the whole")


def test_help_ends_with_the_meaning_of_special_values():
    helps = {name: known.metadata.get("help") for name, known in Sizes.__dataclass_fields__.items()}
    assert helps["lower_size"] == "size of the lower layer; 0: no lower layer"
    assert helps["layers"] == "number of layers"


def test_flag_is_the_name_as_typed():
    assert flag("free_bits_mode") == "--free-bits-mode"


@pytest.mark.parametrize(
    "text, expected",
    {
        "1,20": [1, 20],
        "7": [7],
        " 3, 4": [3, 4],
        "": [],
        "1,": [],
        "0,1": [],
        "-1": [],
        "a": [],
        "1.5": [],
    }.items(),
)
def test_lists_of_whole_numbers(text, expected):
    assert whole_numbers(text) == expected
