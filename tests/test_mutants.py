"""Each mutant of `mutants.txt` still applies; `mutants.py` runs them."""

import mutants


def test_each_mutant_changes_one_place_and_has_an_owner():
    known = [*mutants.parsed()]
    texts = {
        mutant.file: (mutants.ROOT / "cbam_keras" / mutant.file).read_text()
        for mutant in known
    }
    assert [x for x in known if texts[x.file].count(x.old) != 1] == []
    owners = {path.name for path in mutants.MUTANTS.parent.glob("test_*.py")}
    assert {x.owner for x in known} <= owners


def test_each_line_belongs_to_a_mutant():
    text = mutants.MUTANTS.read_text(encoding="utf-8")
    changes = sum(
        mutant.old.count("\n") + mutant.new.count("\n") + 2
        for mutant in mutants.parsed()
    )
    heads = [x for x in text.splitlines() if x[:2] not in ("- ", "+ ")]
    assert all(len(head.split()) == 2 for head in heads)
    assert len(text.splitlines()) == changes + len(heads)
