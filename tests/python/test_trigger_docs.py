"""The pages about triggers: their code runs, their files are accepted, their pictures are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from modyn.pipelines.schema_trigger import Trigger as Section
from modyn.policies import Trigger

PAGES = sorted((Path(__file__).parents[2] / "docs/triggers").glob("*.md"))


def blocks(kind: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        pattern = rf"^```{kind}\n(.*?)^```$"
        for block in re.findall(pattern, page.read_text(), re.MULTILINE | re.DOTALL):
            found.append((page.name, block))
    return found


@pytest.mark.parametrize(("page", "text"), blocks("yaml"), ids=lambda value: value[:20])
def test_a_trigger_of_a_page_is_accepted(page, text):
    value = yaml.safe_load(text)

    policy = TypeAdapter(Section).validate_python(value["trigger"]).settings()

    assert isinstance(policy, Trigger)


def test_links_and_pictures_lead_somewhere():
    wrong = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                wrong.append(f"{page.name}: {target}")

    assert not wrong


def test_there_is_a_page_and_a_block_for_each_family():
    names = {text.split("id: ")[1].split()[0].rstrip(",}") for _, text in blocks("yaml")}

    assert names >= {
        "TimeTrigger",
        "DataAmountTrigger",
        "DataDriftTrigger",
        "PerformanceTrigger",
        "AvoidableMisclassificationCostTrigger",
        "DetectorTrigger",
        "EnsembleTrigger",
    }
