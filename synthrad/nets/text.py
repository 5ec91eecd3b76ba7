"""Nets that read prompts: a small one that learns with the generator, and frozen ones of the transformers library."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from synthrad.errors import InputError
from synthrad.nets.kept_tokens import KeptTokens

PAD, UNKNOWN_WORD = 0, 1  # numbers of no word, and of a word that the vocabulary lacks
READ = ("input_ids", "attention_mask")  # what text encoders take of what tokenizers give
KEPT_BYTES = 2**29  # of embeddings, held at most
HUB_SECONDS = 5.0  # for the hub to answer at all


def words_of(prompt: str) -> list[str]:
    """Words and numbers in lower case; all else separates them."""
    return re.findall(r"[^\W_]+", prompt.lower())


def vocabulary(prompts: Sequence[str], subjects: Sequence[object], least: int, harmless: Sequence[str] = ()) -> list[str]:
    """Words that the prompts of at least so many subjects hold: a rarer one may name a patient.

    Args:
        prompts: [n], of `subjects` [n]. harmless: texts whose words name nobody, such as names of classes: all of them stay.

    Returns:
        the harmless words, then the others, most frequent first.
    """
    owners: dict[str, set[object]] = {}
    for prompt, subject in zip(prompts, subjects, strict=True):
        for word in set(words_of(prompt)):
            owners.setdefault(word, set()).add(subject)
    named = sorted({w for text in harmless for w in words_of(text)})
    counts = Counter({w: len(s) for w, s in owners.items() if len(s) >= least and w not in named})
    return [*named, *sorted(counts, key=lambda w: (-counts[w], w))]


class WordEncoder(nn.Module):
    """A transformer over the words of a prompt (Vaswani et al. 2017, pre-norm) that is trained with the generator.

    Args:
        words: the vocabulary; any other word is one and the same.
        length: words of the longest prompt. width: of a token. depth, heads: of the transformer.
    """

    def __init__(self, words: Sequence[str], length: int = 32, width: int = 128, depth: int = 2, heads: int = 4):
        super().__init__()
        if width < heads or width % heads:
            raise InputError("model.text_width", str(width), f"a multiple of {heads}", "such as 128")
        self.numbers = {w: i for i, w in enumerate(words, UNKNOWN_WORD + 1)}
        self.length, self.width = length, width
        self.embedding = nn.Embedding(len(words) + 2, width, padding_idx=PAD)
        self.places = nn.Parameter(0.02 * torch.randn(length, width))
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, depth, norm=nn.LayerNorm(width), enable_nested_tensor=False)

    def check(self, prompts: Sequence[str]) -> None:
        """Refuse a prompt of more words than are read.

        Raises:
            InputError: says which.
        """
        check_lengths([len(words_of(p)) for p in prompts], self.length, "words")

    def unknown(self, prompts: Sequence[str]) -> list[str]:
        """Words that the vocabulary lacks."""
        return sorted({w for p in prompts for w in words_of(p)} - set(self.numbers))

    def forward(self, prompts: Sequence[str]) -> Tensor:
        """Tokens [n, length, width]; 0 after the last word, and so everywhere for an empty prompt.

        Raises:
            InputError: a prompt of more words than `length`.
        """
        self.check(prompts)
        split = [words_of(p) for p in prompts]
        rows = [[self.numbers.get(w, UNKNOWN_WORD) for w in s] + [PAD] * (self.length - len(s)) for s in split]
        number = torch.tensor(rows, dtype=torch.long, device=self.places.device).reshape(len(rows), self.length)
        empty = number == PAD
        # an empty prompt may attend to its first place, or it would be NaN; its tokens become 0 below
        hidden = empty & ~(empty.all(1, keepdim=True) & (torch.arange(self.length, device=number.device) == 0))
        return self.layers(self.embedding(number) + self.places, src_key_padding_mask=hidden).masked_fill(empty[..., None], 0.0)


class FrozenEncoder:
    """A text encoder of the transformers library, never trained; what it gave for a prompt is kept in memory and, if told where, on disk.

    It is no torch module: its weights stay in their own files and out of checkpoints, which hold its digest.

    Args:
        name: folder of a model and its tokenizer, or a hub id. key: of the config, for errors.
        length: tokens of the longest prompt; None = as many as the tokenizer takes, at most 256.

    Raises:
        InputError: neither a folder nor an id whose files are here or can be fetched.
    """

    def __init__(self, name: str, key: str, length: int | None = None):
        try:
            config, tokenizer, model = _load(name)
            text = getattr(config, "text_config", None)  # of a model of images and text, such as CLIP
            if getattr(config, "is_encoder_decoder", False):
                model = model.get_encoder()  # of T5, say
            elif text is not None and hasattr(model, "text_model"):
                model = model.text_model
            model.eval().requires_grad_(False)
            width = model(**{k: v for k, v in tokenizer("a", return_tensors="pt").items() if k in READ}).last_hidden_state.shape[2]
        except Exception as e:  # the library raises many kinds, and long ones
            what = "a folder without a model and its tokenizer" if Path(name).is_dir() else f"no folder, and no hub id whose files are here ({name!r})"
            raise InputError(key, f"{what}: {type(e).__name__}: {' '.join(str(e).split())[:160]}", "the folder of a text encoder of the "
                             "transformers library, or its hub id", "fetch it where there is a network (`hf download ID --local-dir FOLDER`) and "
                             "give the folder, or take the encoder that needs no files: words") from e
        self.name, self.tokenizer, self.model, self.width = name, tokenizer, model, int(width)
        most = min(int(tokenizer.model_max_length), int(getattr(text or config, "max_position_embeddings", 256)), 256)
        if length is not None and length > most:
            raise InputError(f"{key}_length", str(length), f"at most {most}, which {name} takes", "lower it")
        self.length = length or most
        self._kept: dict[str, Tensor] = {}  # in float16
        self._bytes = 0
        self._folder: Path | None = None
        self._on_disk: dict[str, KeptTokens] = {}  # by the kind of device: what they compute differs a little

    def keep_in(self, folder: Path) -> None:
        """Keep what is read on disk as well, under this folder, for this encoder's weights and vocabulary alone."""
        self._folder = folder

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the weights and of the vocabulary, which decide what prompts become."""
        found = hashlib.sha256(repr(sorted(self.tokenizer.get_vocab().items())).encode())
        for key, value in sorted(self.model.state_dict().items()):
            found.update(key.encode() + value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return found.hexdigest()

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str], device: torch.device | str = "cpu") -> Tensor:
        """Tokens [n, length, width]; 0 after the last one, and so everywhere for an empty prompt.

        Raises:
            InputError: a prompt of more tokens than `length`.
        """
        out, known = torch.zeros(len(prompts), self.length, self.width), {p: self._kept[p] for p in prompts if p in self._kept}
        for row, prompt in zip(out, prompts, strict=True):
            if not prompt:
                continue
            if prompt not in known:
                known[prompt] = self._read(prompt, device)
            row[: len(known[prompt])] = known[prompt].float()
        self._keep(known)
        return out.to(device)

    def check(self, prompts: Sequence[str]) -> None:
        """Refuse a prompt of more tokens than are read.

        Raises:
            InputError: says which.
        """
        check_lengths([len(self.tokenizer(p)["input_ids"]) if p else 0 for p in prompts], self.length, f"tokens of {self.name}")

    def _read(self, prompt: str, device: torch.device | str) -> Tensor:
        self.check([prompt])
        given, kept = {k: v for k, v in self.tokenizer(prompt, return_tensors="pt").items() if k in READ}, self._tokens_on_disk(device)
        numbers = given["input_ids"][0].tolist()
        if kept is not None and (found := kept.read(numbers)) is not None and found.shape[1:] == (self.width,):
            return found
        self.model.to(device)
        with torch.autocast(torch.device(device).type, enabled=False):  # the same whatever the precision of the fit
            tokens = self.model(**{k: v.to(device) for k, v in given.items()}).last_hidden_state[0].half().cpu()
        if kept is not None:
            kept.write(numbers, tokens)
        return tokens

    def _tokens_on_disk(self, device: torch.device | str) -> KeptTokens | None:
        if self._folder is None:
            return None
        kind = torch.device(device).type
        if kind not in self._on_disk:
            self._on_disk[kind] = KeptTokens(self._folder / f"prompts-{self.digest[:16]}-{kind}")
        return self._on_disk[kind]

    def _keep(self, known: Mapping[str, Tensor]) -> None:
        """Hold what was read for later, and let go of what was held longest."""
        for prompt, tokens in known.items():
            if prompt not in self._kept:
                self._kept[prompt] = tokens
                self._bytes += tokens.nbytes
        while self._bytes > KEPT_BYTES and self._kept:
            self._bytes -= self._kept.pop(next(iter(self._kept))).nbytes


def _load(name: str) -> tuple[Any, Any, Any]:
    """Config, tokenizer and model of a folder or hub id: from this machine if they are here, else fetched.

    Left to itself the library asks the hub about every file, five times over, also for files that it has: without a network
    that is minutes. So the hub is asked only for what is not here, and first once, for a few seconds, whether it answers.
    """
    from huggingface_hub import HfApi
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    parts = (AutoConfig, AutoTokenizer, AutoModel)
    try:
        return tuple(part.from_pretrained(name, local_files_only=True) for part in parts)
    except Exception:  # the library raises many kinds
        if Path(name).is_dir():
            raise
    HfApi().model_info(name, timeout=HUB_SECONDS)
    return tuple(part.from_pretrained(name) for part in parts)


def check_lengths(lengths: Sequence[int], most: int, unit: str) -> None:
    """Refuse prompts that would be cut; what they say, a report perhaps, is not repeated.

    Raises:
        InputError: names the first one.
    """
    if too_long := [i for i, length in enumerate(lengths) if length > most]:
        first = too_long[0]
        raise InputError("prompts", f"{len(too_long)} of {len(lengths)} too long, the first in row {first + 1}: {lengths[first]} {unit}",
                         f"at most {most}", "shorten them, or train with a larger model.text_length where the encoder takes more")
