"""Texts as training data: words, vocabularies, pairs of texts, tables of them, WordNet."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spherometer.data import TextPairs, Vocabulary, load_wordnet, open_text_pairs, read_synsets, words
from spherometer.data._wordnet import LEXICAL_CLASSES, PARTS, SYSTEM
from spherometer.errors import InputError
from wordnet_format import wordnet_files

wordnet = pytest.mark.skipif(not (SYSTEM / "data.noun").is_file(), reason="wordnet-base is not installed")
SENTENCES = st.lists(st.sampled_from(list("abcdefgh")), min_size=1, max_size=12).map(" ".join)


def refused(call, message: str) -> None:
    with pytest.raises(InputError) as error:
        call()
    assert str(error.value) == message


class TestWords:
    def test_words(self):
        assert words("The dog's “tail”, un-wagged: 3rd_time—ÉTÉ!") == [
            "the", "dog's", "tail", "un", "wagged", "3rd", "time", "été"
        ]  # fmt: skip
        assert words(" ... ' - _ ") == []

    def test_vocabulary_orders_by_count_then_alphabet(self):
        made = Vocabulary.of(["b a c", "b a", "b d d"], min_count=2)
        assert made.words == ("b", "a", "d")
        assert Vocabulary.of(["b a c", "b a", "b d d"], min_count=1, max_size=3).words == ("b", "a", "d")
        assert len(made) == 5

    def test_tokens_by_hand(self):
        made = Vocabulary(["b", "a"])
        tokens = made.tokens(["A b z a", "b"], max_length=3)
        assert tokens.dtype == torch.int64
        assert tokens.tolist() == [[3, 2, 1], [2, 0, 0]]
        assert made.tokens([], max_length=3).shape == (0, 3)

    def test_a_vocabulary_survives_json(self):
        made = Vocabulary.of(["one two two", "three three été été"])
        assert Vocabulary(json.loads(json.dumps(made.words))) == made

    def test_a_word_twice_is_refused(self):
        refused(
            lambda: Vocabulary(["a", "b", "a"]),
            "Vocabulary: known must be texts, each once, because a word has one number. Got 3 entries, 2 "
            "different ones. Pass every word once, or use Vocabulary.of(texts).",
        )


class TestPairs:
    def test_views_without_dropout_are_the_tokens(self):
        pairs = TextPairs(["a b", "b"], ["b", "a a b"], max_length=4)
        assert pairs.vocabulary.words == ("b", "a")
        x, y = pairs(7, torch.tensor([1, 0]))
        assert x.tolist() == [[2, 0, 0, 0], [3, 2, 0, 0]]
        assert y.tolist() == [[3, 3, 2, 0], [2, 0, 0, 0]]
        assert len(pairs) == 2

    @given(st.lists(SENTENCES, min_size=3, max_size=12), st.integers(0, 5), st.floats(0.05, 0.95))
    def test_dropout_leaves_words_out_in_order_and_keeps_one(self, texts, epoch, share):
        made = Vocabulary("abcdefgh")
        pairs = TextPairs(texts, texts, vocabulary=made, word_dropout=share, max_length=12, seed=3)
        index = torch.arange(len(texts))
        for view, whole in zip(pairs(epoch, index), (pairs.left, pairs.right), strict=True):
            assert view.shape == whole.shape
            for kept, full in zip(view.tolist(), whole.tolist(), strict=True):
                num = sum(map(bool, kept))
                assert 1 <= num <= sum(map(bool, full))
                assert not any(kept[num:])
                rest = iter(full)
                assert all(token in rest for token in kept[:num])  # a subsequence

    def test_views_depend_on_seed_epoch_and_index_alone(self):
        texts = [" ".join("abcdefgh")] * 40
        pairs = TextPairs(texts, texts, word_dropout=0.4, seed=1, vocabulary=Vocabulary("abcdefgh"))
        whole = pairs(2, torch.arange(40))
        torch.manual_seed(0)
        before = torch.get_rng_state()
        part = pairs(2, torch.tensor([31, 4]))
        assert torch.equal(torch.get_rng_state(), before)
        for x, y in zip(whole, part, strict=True):
            assert torch.equal(x[[31, 4]], y)
        assert not torch.equal(whole[0], whole[1])
        assert not torch.equal(whole[0], pairs(3, torch.arange(40))[0])
        left_out = 1 - float((whole[0] > 0).sum()) / 320
        assert left_out == pytest.approx(0.4, abs=0.09)

    def test_fingerprint_follows_everything(self):
        made = [
            TextPairs(["a b", "b"], ["b", "a"]),
            TextPairs(["a b", "b"], ["a", "b"]),
            TextPairs(["a b", "b"], ["b", "a"], seed=1),
            TextPairs(["a b", "b"], ["b", "a"], word_dropout=0.1),
            TextPairs(["a b", "b"], ["b", "a"], max_length=3),
            TextPairs(["a b", "b"], ["b", "a"], labels=torch.tensor([0, 1])),
            TextPairs(["a b", "b"], ["b", "a"], vocabulary=Vocabulary("a")),
        ]
        assert len({each.fingerprint() for each in made}) == len(made)
        assert made[0].fingerprint() == TextPairs(["a b", "b"], ["b", "a"]).fingerprint()

    def test_bad_pairs(self):
        refused(
            lambda: TextPairs(["a", "..."], ["b", "c"]),
            "TextPairs: left must hold texts with at least one word, because a text without words has no "
            "direction. Got '...' in row 1. Remove that pair.",
        )
        refused(
            lambda: TextPairs(["a"], ["b", "c"]),
            "TextPairs: left and right must be lists of the same length, at least 1, because text i of one "
            "belongs to text i of the other. Got left 1, right 2. Pass matching lists.",
        )
        refused(
            lambda: TextPairs(["a"], ["b"], word_dropout=1),
            "TextPairs: word_dropout must lie in [0, 1), because it is the share of words that are left out. "
            "Got 1. Pass for instance word_dropout=0.1.",
        )
        refused(
            lambda: TextPairs(["a"], ["b"])(0, torch.tensor([1])),
            "TextPairs: index must lie between 0 and 0, because it counts the pairs. Got values from 1 to 1. "
            "Pass row numbers of the pairs.",
        )


def written(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


class TestTables:
    def test_three_formats_give_the_same(self, tmp_path):
        rows = [("a cat, small", "kitten", "x"), ('a "dog"', "it barks", "y"), ("one", "two\ttabs", "x")]
        files = {
            "p.tsv": "left\tright\tkind\na cat, small\tkitten\tx\na \"dog\"\tit barks\ty\none\ttwo tabs\tx\n",
            "p.csv": 'left,right,kind\r\n"a cat, small",kitten,x\r\n"a ""dog""",it barks,y\r\n'
                     'one,"two\ttabs",x\r\n',
            "p.jsonl": "".join(json.dumps(dict(zip(("left", "right", "kind"), row, strict=True))) + "\n\n"
                               for row in rows),
        }  # fmt: skip
        made = [open_text_pairs(written(tmp_path / name, text), label="kind") for name, text in files.items()]
        for pairs in made:
            assert len(pairs) == 3
            assert pairs.labels.tolist() == [0, 1, 0]
            assert torch.equal(pairs.left, made[0].left)
            assert torch.equal(pairs.right, made[0].right)

    def test_columns_by_name(self, tmp_path):
        path = written(tmp_path / "p.tsv", "id\tone\ttwo\n1\ta b\tb a b\n")
        pairs = open_text_pairs(path, left="two", right="one", max_length=3)
        assert (pairs.left > 0).sum() == 3
        assert (pairs.right > 0).sum() == 2

    def test_a_byte_order_mark_is_no_part_of_a_name(self, tmp_path):
        path = tmp_path / "p.csv"
        path.write_bytes(b"\xef\xbb\xbfa,b\none,two\n")
        assert len(open_text_pairs(path, left="a", right="b")) == 1

    @pytest.mark.parametrize(
        ("name", "text", "must", "got"),
        [
            ("p.tsv", "a\tb\none\ttwo\nthree\n", "hold two texts in every line",
             "line 3: 1 fields, but 2 columns"),
            ("p.csv", "a,b\none,two\n\nx,...\n", "hold two texts in every line",
             "line 4: a text without words in column 'b'"),
            ("p.csv", 'a,b\none,"two\n', "hold two texts in every line", "line 2: unexpected end of data"),
            ("p.jsonl", '{"a": "one", "b": "two"}\n{"a": "one"', "hold two texts in every line",
             "line 2: no JSON (Expecting ',' delimiter: line 1 column 12 (char 11))"),
            ("p.jsonl", '{"a": "one", "b": 2}\n', "hold two texts in every line",
             "line 1: no text in column 'b'"),
            ("p.jsonl", "[1]\n", "hold two texts in every line", "line 1: no JSON object"),
            ("p.tsv", "a\tb\n", "hold at least one pair", "without any"),
        ],
    )  # fmt: skip
    def test_bad_lines_are_named(self, tmp_path, name, text, must, got):
        path = written(tmp_path / name, text)
        with pytest.raises(InputError) as error:
            open_text_pairs(path)
        message = str(error.value)
        assert message.startswith(
            f"open_text_pairs: path must {must}, because pairs of texts are read from it."
        )
        assert got in message
        assert "\n" not in message

    def test_some_bad_lines_may_be_skipped(self, tmp_path):
        path = written(tmp_path / "p.tsv", "a\tb\none\ttwo\nthree\nfour\tfive\n\tsix\n")
        pairs = open_text_pairs(path, skip_bad=2)
        assert len(pairs) == 2
        assert pairs.source == "pairs of texts in p.tsv, 2 bad lines left out"
        refused(
            lambda: open_text_pairs(path, skip_bad=1),
            "open_text_pairs: path must hold two texts in every line, because pairs of texts are read from "
            f"it. Got {path}, line 5: a text without words in column 'a' (2 such lines, skip_bad=1). Mend "
            "it, or raise skip_bad.",
        )

    def test_an_open_quote_is_never_skipped(self, tmp_path):
        path = written(tmp_path / "p.csv", 'a,b\none,"two\nthree,four\n')
        refused(
            lambda: open_text_pairs(path, skip_bad=9),
            "open_text_pairs: path must hold two texts in every line, because pairs of texts are read from "
            f"it. Got {path}, line 2: unexpected end of data. Pass another file.",
        )

    def test_bad_files(self, tmp_path):
        (tmp_path / "p.tsv").write_bytes(b"a\tb\none\t\xff\n")
        refused(
            lambda: open_text_pairs(tmp_path / "p.tsv"),
            "open_text_pairs: path must be UTF-8, because pairs of texts are read from it. Got "
            f"{tmp_path / 'p.tsv'}, line 2: byte 0xff. Convert it.",
        )
        refused(
            lambda: open_text_pairs(tmp_path / "q.csv"),
            "open_text_pairs: path must be a file that can be read, because pairs of texts are read from it. "
            f"Got {tmp_path / 'q.csv'} (no such file or directory). Pass another file.",
        )
        path = written(tmp_path / "r.csv", "a,b\none,two\n")
        refused(
            lambda: open_text_pairs(path, left="c", right="b"),
            "open_text_pairs: path must have the column 'c', because pairs of texts are read from it. Got "
            "'a', 'b'. Pass another name.",
        )


class TestWordNet:
    def test_small_files(self, tmp_path):
        where = wordnet_files(
            tmp_path,
            [
                ("03", 'a thing; "this thing here"; "another one"'),
                ("05", "an animal that barks (as in the phrase \"bow wow\"); chiefly small"),
                ("28", 'a period: "it took a day"'),
                ("04", "A thing!"),  # the words of the first again
                ("13", 'a quote that "stays open; "here"'),
            ],
        )  # fmt: skip
        found = read_synsets(where / "data.noun")
        assert [each.definition for each in found] == [
            "a thing", 'an animal that barks (as in the phrase "bow wow"); chiefly small', "a period",
            "A thing!", 'a quote that "stays open'
        ]  # fmt: skip
        assert found[0].examples == ("this thing here", "another one")
        assert [each.examples for each in found[1:]] == [(), ("it took a day",), (), ()]
        assert [each.lexical_class for each in found] == [3, 5, 28, 4, 13]
        whole = load_wordnet(where)
        assert whole.num_repeated == 1
        parts = [whole.parts[name] for name in PARTS]
        pairs = [pair for part in parts for pair in zip(part.definitions, part.examples, strict=True)]
        assert sorted(pairs) == [
            ("a period", "it took a day"), ("a thing", "this thing here"), ("blue", "a blue sky"),
            ("to act", "he acts"),
        ]  # fmt: skip
        assert sorted(int(y) for part in PARTS for y in whole.parts[part].labels) == [2, 10]

    @pytest.mark.parametrize(
        ("damage", "got"),
        [
            (lambda b: b[:-10], "line 4: the file ends within a line"),
            (lambda b: b.replace(b"licence", b"licenc"),
             "line 2: offset 00000019, but the line begins at byte 18"),
            (lambda b: b.replace(b" 05 n ", b" 29 n "),
             "line 3: lexical class 29, but those of nouns are 03 to 28"),
            (lambda b: b.replace(b" 05 n ", b" 05 v "), "line 3: type 'v' in a file of noun synsets"),
            (lambda b: b.replace(b"small", b"sm\xffll"), "line 3: bytes that are not UTF-8"),
            (lambda b: b.replace(b" | small", b" x small"), "line 3: no synset ('"),
            (lambda b: b.replace(b"small dog", b"... .....").replace(b"dog", b"..."),
             "line 3: no definition ('"),
            (lambda b: b"", "line 0: no synset in the whole file"),
        ],
    )  # fmt: skip
    def test_damage_is_named(self, tmp_path, damage, got):
        where = wordnet_files(tmp_path, [("03", "a thing"), ("05", "small dog"), ("06", "made")])
        path = where / "data.noun"
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(InputError) as error:
            load_wordnet(where)
        message = str(error.value)
        assert message.startswith(
            f"load_wordnet: {path} must be a data file of WordNet 3.0, because a damaged file would be read "
            f"as other meanings. Got {got}"
        )
        assert message.endswith(
            ". Install it again, for instance with: apt install --reinstall wordnet-base."
        )
        assert "\n" not in message

    def test_where_it_is_looked_for(self, tmp_path, monkeypatch):
        wordnet_files(tmp_path / "data" / "wordnet", [("03", 'a thing; "this one"')])
        monkeypatch.setenv("SPHEROMETER_DATA", str(tmp_path / "data"))
        assert sum(len(part.definitions) for part in load_wordnet().parts.values()) == 3
        refused(
            lambda: load_wordnet(tmp_path / "none"),
            "load_wordnet: directory must hold WordNet's files (data.noun, data.verb, data.adj, data.adv), "
            "because its glosses are the texts that are read. Got none of them all in "
            f"{tmp_path / 'none'} or {tmp_path / 'none' / 'wordnet'}. Install it with: "
            "apt install wordnet-base; or pass the directory that has the files.",
        )

    @wordnet
    def test_the_real_one(self):
        whole = load_wordnet(SYSTEM)
        nums = {name: (len(part.definitions), len(part.texts)) for name, part in whole.parts.items()}
        assert nums == {"train": (19506, 43730), "validation": (6458, 14450), "test": (6599, 14580)}
        assert whole.num_repeated == 994
        keys = {
            name: {tuple(words(text)) for text in (*part.definitions, *part.examples, *part.texts)}
            for name, part in whole.parts.items()
        }
        assert sum(map(len, keys.values())) == sum(2 * pairs + alone for pairs, alone in nums.values())
        assert len(set.union(*keys.values())) == sum(map(len, keys.values()))  # no text in two places
        for part in whole.parts.values():
            assert set(part.labels.tolist()) == set(range(len(LEXICAL_CLASSES)))
