"""The pages about triggers: their code runs, their files are accepted, their pictures are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter

from modyn.pipelines.schema_trigger import Trigger as Section
from modyn.policies import Trigger

OLDER = {"TriggerEvaluation"}  # which says what the key `metrics` does
IGNORED = {"evaluation_transformer_function"}  # accepted if null
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


def keys_of(section: Any, seen: set[type]) -> Iterator[str]:
    """The keys of a section and of those in it, under the names that files give them."""
    if isinstance(section, type) and issubclass(section, BaseModel):
        if section in seen or section.__name__ in OLDER:
            return
        seen.add(section)
        for name, key in section.model_fields.items():
            yield key.alias or name
            yield from keys_of(key.annotation, seen)
    for inner in get_args(getattr(section, "__value__", section)):
        yield from keys_of(inner, seen)


def test_every_key_of_every_trigger_is_on_a_page():
    text = "".join(page.read_text() for page in PAGES)
    code = " ".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))
    words = set(re.findall(r"\w+", code))

    keys = set(keys_of(Section, set()))

    assert len(keys) > 60
    assert sorted(keys - words - IGNORED) == []


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
