"""The plan for a number of scopes, with costs whose results are known."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evaluation.commands.bench import application
from evaluation.scaling.costs import Costs, measured_costs
from evaluation.scaling.page import plan_text
from evaluation.scaling.plan import Site, needs, scopes_of_one_unit, total_price
from models.errors import DataError

DOCS = Path(__file__).parents[3] / "docs"

NOTHING = replace(Costs(*[0.0] * len(fields(Costs))), fit_curve=((1.0, 0.0), (100.0, 0.0)))  # type: ignore[arg-type]


def load_of(part: str, costs: Costs, site: Site, scopes: int) -> float:
    (found,) = (need.load for need in needs(costs, site, scopes) if need.part.startswith(part))
    return found


def test_a_scope_that_spends_ten_milliseconds_a_frame_needs_a_core_at_100_frames_a_second() -> None:
    costs = replace(NOTHING, network_s=4e-3, fit_curve=((10.0, 4e-3), (30.0, 6e-3)), track_target_s=0.05e-3)
    site = Site(fps=100.0, emitters=20.0)
    assert load_of("processor of a scope", costs, site, 1) == pytest.approx(1.0)
    assert load_of("processor of a scope", costs, site, 1000) == pytest.approx(1.0)


def test_a_relay_that_spends_a_millisecond_a_message_is_full_with_ten_scopes() -> None:
    costs = replace(NOTHING, relay_message_s=0.8e-3, view_s=0.1e-3)
    site = Site(fps=100.0, viewers_per_scope=2.0, highest_load=1.0)
    assert load_of("relay", costs, site, 10) == pytest.approx(1.0)
    assert {need.part: need.units for need in needs(costs, site, 25)}["relay (process, one core)"] == 3


def test_shared_parts_grow_with_the_scopes_and_the_price_with_their_units() -> None:
    costs, site = measured_costs(DOCS), Site()
    few, many = needs(costs, site, 10), needs(costs, site, 1000)
    for one, other in zip(few, many, strict=True):
        assert other.load == pytest.approx(one.load * (100 if one.shared else 1))
        assert other.units >= one.units >= 1
    assert total_price(many) > total_price(few)
    (storage,) = (need for need in many if need.part.startswith("storage"))
    recorded_tb = 1000 * 30 * 8 * 3600 * 100 * (costs.frame_bytes + 20 * costs.point_bytes) / 1e12
    assert storage.units == math.ceil(recorded_tb / site.highest_load)


def test_the_part_that_saturates_first_is_first_and_one_more_scope_needs_a_second_unit() -> None:
    costs, site = measured_costs(DOCS), Site()
    carried = scopes_of_one_unit(costs, site)
    assert [count for _, count in carried] == sorted(count for _, count in carried)
    for part, count in carried:
        if count:
            assert {need.part: need.units for need in needs(costs, site, count)}[part] == 1
        assert {need.part: need.units for need in needs(costs, site, count + 1)}[part] > 1


def test_costs_are_those_of_the_records_and_a_missing_record_is_named(tmp_path: Path) -> None:
    costs = measured_costs(DOCS)
    assert all(getattr(costs, field.name) for field in fields(Costs))
    assert costs.network_s == pytest.approx(2.4e-3)  # int8, batch of 8, in the record `localize`
    with pytest.raises(DataError, match="filter/all-degrees"):
        measured_costs(tmp_path)


def test_the_page_has_the_tables_of_the_command_and_the_figure_is_drawn(tmp_path: Path) -> None:
    tables = plan_text(measured_costs(DOCS), Site(), [10, 100, 10_000])
    page = (DOCS / "scaling.md").read_text(encoding="utf-8")
    assert all(table in page for table in tables.split("\n\n")), (
        "Run `bathyscope bench scaling` and put its tables into docs/scaling.md."
    )
    done = CliRunner().invoke(application, ["scaling", "--docs", str(DOCS), "--out", str(tmp_path / "a.png")])
    assert done.exit_code == 0, done.output
    assert tables in done.output
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("scopes", ["0", "-1", "1000001", "many"])
def test_a_number_of_scopes_out_of_range_is_refused(scopes: str) -> None:
    done = CliRunner().invoke(application, ["scaling", "--scopes", scopes])
    assert done.exit_code == 2
    assert "--scopes" in done.output
