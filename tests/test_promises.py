"""`docs/promises.md` owns each public name and each option of the command."""

import argparse
import collections
import pathlib
import re

from test_imports import PUBLIC

import cbam_keras
from _cbam_keras_command.parser import build_parser

PAGE = pathlib.Path(__file__).parent.parent / "docs/promises.md"
# What every command has, and what turns an option off.
USUAL = re.compile(r"-h|--help|--no-(?!cache|report)\S+")


def find_options(parser):
    """Returns the options of a parser and of its subcommands."""
    options = set()
    for action in parser._actions:
        options |= {*action.option_strings}
        if isinstance(action, argparse._SubParsersAction):
            options |= set().union(*map(find_options, action.choices.values()))
    return {option for option in options if not USUAL.fullmatch(option)}


def find_names():
    """Returns public names, with their module but for those of the root."""
    root = {*cbam_keras.__all__}
    return root | {
        f"{module}.{name}"
        for module, names in PUBLIC.items()
        for name in {*names} - root
    }


def columns(number):
    """Returns what a column of the table has in backticks, by row."""
    rows = re.findall(r"^\| (.*) \|$", PAGE.read_text(), re.M)
    return [re.findall("`(.+?)`", row.split(" | ")[number]) for row in rows]


def test_each_name_and_option_has_one_promise():
    owned = collections.Counter(x for row in columns(2) for x in row)
    assert [name for name, count in owned.items() if count > 1] == []
    assert {*owned} == find_names() | find_options(build_parser())


def test_the_table_is_short_and_its_files_exist():
    assert len(PAGE.read_text().splitlines()) <= 70
    folder = pathlib.Path(cbam_keras.__file__).parent
    places = [place for row in columns(3) for place in row]
    assert [place for place in places if not (folder / place).exists()] == []
