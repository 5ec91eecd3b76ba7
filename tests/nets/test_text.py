import pytest
import torch
from tiny_bert import make_bert
from transformers import BertModel, BertTokenizer, T5Config, T5Model

from synthrad.errors import InputError
from synthrad.nets import text
from synthrad.nets.text import FrozenEncoder, WordEncoder, vocabulary, words_of


def test_words_and_those_of_few_patients_stay_out():
    assert words_of("Pleural effusion, 60s; no-finding") == ["pleural", "effusion", "60s", "no", "finding"]
    prompts = ["effusion left", "effusion Smith", "effusion left", "Smith effusion"]
    assert vocabulary(prompts, ["a", "b", "c", "b"], 2) == ["effusion", "left"]  # Smith is of one patient
    assert vocabulary([], [], 1) == []
    assert vocabulary(prompts, ["a", "b", "c", "b"], 2, ["Hernia"]) == ["hernia", "effusion", "left"]  # a class names nobody


def test_tokens_of_words():
    torch.manual_seed(0)
    net = WordEncoder(["effusion", "left", "right"], length=4, width=8, heads=2).eval()
    one = net(["left effusion", "right effusion", "", "left  EFFUSION!"])
    assert one.shape == (4, 4, 8) and torch.isfinite(one).all()
    assert not one[2].any() and not one[:, 2:].any()  # nothing said, nothing told
    torch.testing.assert_close(one[0], one[3])
    assert not torch.isclose(one[0, 1], one[1, 1]).all()  # a word knows its neighbours
    torch.testing.assert_close(net(["left"])[0], net(["left", "a b c d"])[0])  # and nothing of other prompts
    torch.testing.assert_close(net(["tube"]), net(["wire"]))  # words it never saw are one word
    with pytest.raises(InputError, match="1 of 2 too long, the first in row 2: 5 words; expected at most 4"):
        net(["left", "a b c d e"])
    assert net.unknown(["left tube", "wire"]) == ["tube", "wire"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return make_bert(tmp_path_factory.mktemp("bert"))


def test_a_frozen_encoder_gives_what_its_model_gives(bert):
    made = FrozenEncoder(str(bert), "model.text")
    assert (made.length, made.width) == (8, 16)
    tokens = made(["left effusion", "", "left effusion"])
    assert tokens.shape == (3, 8, 16) and not tokens[1].any() and torch.equal(tokens[0], tokens[2]) and not tokens[0, 4:].any()
    model = BertModel.from_pretrained(bert).eval()
    with torch.no_grad():
        own = model(**made.tokenizer("left effusion", return_tensors="pt")).last_hidden_state[0]
    torch.testing.assert_close(tokens[0, :4], own, rtol=1e-3, atol=1e-3)  # [CLS] left effusion [SEP]
    model.forward = None
    made.model.forward = lambda **_: pytest.fail("computed again")
    assert torch.equal(made(["left effusion"])[0], tokens[0])
    with pytest.raises(InputError, match="in row 1: 9 tokens of .*expected at most 8"):
        FrozenEncoder(str(bert), "model.text")(["left right left right left right left"])
    with pytest.raises(InputError, match="model.text_length: found 9; expected at most 8"):
        FrozenEncoder(str(bert), "model.text", 9)


def test_a_frozen_encoder_is_known_by_its_weights_and_words(bert, tmp_path):
    one = FrozenEncoder(str(bert), "model.text")
    assert one.digest == FrozenEncoder(str(bert), "model.text", 4).digest
    other = FrozenEncoder(str(bert), "model.text")
    other.model.embeddings.word_embeddings.weight.data[5] += 1
    assert other.digest != one.digest


def test_what_does_not_fit_into_memory_is_read_again(bert, monkeypatch):
    monkeypatch.setattr(text, "KEPT_BYTES", 2 * 4 * 16 * 2)  # two prompts of four tokens, float16
    made = FrozenEncoder(str(bert), "model.text")
    prompts = ["left effusion", "right effusion", "no finding", "finding left"]
    whole = FrozenEncoder(str(bert), "model.text")(prompts)
    for batch in ([0, 1], [2, 0, 3, 1], [0, 2], [3, 3, 0, 1]):
        assert torch.equal(made([prompts[i] for i in batch]), whole[batch])
        assert len(made._kept) <= 2


def test_another_process_reads_from_disk_what_the_same_encoder_gave(bert, tmp_path):
    prompts, one = ["left effusion", "right", ""], FrozenEncoder(str(bert), "model.text")
    one.keep_in(tmp_path)
    with torch.autocast("cpu", torch.bfloat16):  # as in a fit
        tokens = one(prompts)
    assert torch.equal(tokens, FrozenEncoder(str(bert), "model.text")(prompts))  # and without it the same
    [folder] = tmp_path.iterdir()
    assert len(list(folder.iterdir())) == 2 and folder.name == f"prompts-{one.digest[:16]}-cpu"

    other, computed = FrozenEncoder(str(bert), "model.text"), []
    run = other.model.forward
    other.model.forward = lambda **given: computed.append(given) or run(**given)
    other.keep_in(tmp_path)
    assert torch.equal(other(prompts), tokens) and not computed
    for torn in folder.iterdir():
        torn.write_bytes(torn.read_bytes()[:-1] + b"x")
    other._kept.clear()
    assert torch.equal(other(prompts), tokens) and len(computed) == 2  # and written anew
    other._kept.clear()
    assert torch.equal(other(prompts), tokens) and len(computed) == 2

    changed = FrozenEncoder(str(bert), "model.text")
    next(iter(changed.model.parameters())).data += 0.5
    changed.keep_in(tmp_path)
    assert not torch.equal(changed(prompts), tokens) and len(list(tmp_path.iterdir())) == 2


def test_of_an_encoder_with_a_decoder_the_encoder_reads(tmp_path, bert):
    T5Model(T5Config(vocab_size=10, d_model=16, d_ff=16, d_kv=8, num_layers=1, num_heads=2, decoder_start_token_id=0)).save_pretrained(tmp_path)
    BertTokenizer.from_pretrained(bert).save_pretrained(tmp_path)
    assert FrozenEncoder(str(tmp_path), "model.text")(["left"]).shape[2] == 16


def test_the_hub_is_asked_once_and_only_for_what_is_not_here(bert, monkeypatch):
    asked = []
    from huggingface_hub import HfApi
    from transformers import AutoConfig

    def unreachable(self, name, timeout):
        asked.append((name, timeout))
        raise ConnectionError("no route to host")

    monkeypatch.setattr(HfApi, "model_info", unreachable)
    fetch = AutoConfig.from_pretrained
    flags = []
    monkeypatch.setattr(AutoConfig, "from_pretrained", lambda name, **more: flags.append(more) or fetch(name, **more))
    FrozenEncoder(str(bert), "model.text")
    assert not asked
    with pytest.raises(InputError, match="no/such-encoder.*no route to host"):
        FrozenEncoder("no/such-encoder", "model.text")
    assert asked == [("no/such-encoder", text.HUB_SECONDS)] and flags and all(f["local_files_only"] for f in flags)


@pytest.mark.parametrize("name", ["no/such-encoder", "EMPTY"])
def test_an_encoder_that_is_not_here_is_one_error(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    name = str(tmp_path) if name == "EMPTY" else name
    with pytest.raises(InputError) as e:
        FrozenEncoder(name, "model.text")
    said = str(e.value)
    assert said.startswith("model.text: found") and name in said and "local-dir" in said and "words" in said
