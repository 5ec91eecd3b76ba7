"""Which public sets hold images of which others: a test set that another set annotates anew is no test set for what that one trained."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Overlap:
    """`holder` holds images of `source`.

    Args:
        what: how many or which. said_by: where its makers say so.
    """

    holder: str
    source: str
    what: str
    said_by: str


ALIASES: dict[str, tuple[str, ...]] = {  # corpus -> ids and names that sets of it go by, without case, signs and sizes
    "nih-chestxray14": ("nih", "nihchest", "nihchestxray", "nihchestxray14", "nihchestxrays", "nihcxr", "nihcxr8", "nihcxr14", "chestxray14", "chestxray8", "cxr8", "cxr14"),
    "rsna-pneumonia": ("rsna", "rsnapneumonia", "rsnapneumoniadetection", "rsnapneumoniadetectionchallenge", "rsnapneumonia2018"),
    "siim-acr-pneumothorax": ("siim", "siimacr", "siimacrpneumothorax", "siimpneumothorax", "siimacrpneumothoraxsegmentation", "candidsiim"),
    "chestx-det10": ("chestxdet", "chestxdet10"),
    "nih-google": ("nihgoogle", "googlenih"),
    "chexpert": ("chexpert", "chexpertv10", "chexpertv1"),
    "chexpert-plus": ("chexpertplus",),
    "mimic-cxr": ("mimic", "mimiccxr", "mimiccxrjpg"),
    "padchest": ("padchest", "bimcvpadchest"),
    "brax": ("brax",),
    "vindr-cxr": ("vindr", "vindrcxr", "vinbigdata"),
    "openi": ("openi", "iuxray", "indianacxr"),
    "candid-ptx": ("candid", "candidptx"),
    "chexmask": ("chexmask",),
    "ieee8023-covid": ("ieee8023", "ieee8023covid", "ieee8023covidchestxray", "covidchestxray", "covidchestxraydataset", "ieee8023covidchestxraydataset"),
    "generalblockchain-covid": ("generalblockchain", "generalblockchainsegmentations", "covid19chestxraysegmentationsdataset"),
    "v7-covid-lungs": ("v7lungs", "v7covid", "v7covidlungs", "v7covid19xraydataset"),
    "covidx": ("covidx", "covidxcxr", "covidxcxr2", "covidxcxr3", "covidxcxr4"),
    "covid19-radiography": ("covid19radiography", "covid19radiographydatabase", "covid19radiographydataset"),
    "kermany-pneumonia": ("kermany", "kermanypneumonia", "chestxraypneumonia"),
    "pmc-15m": ("pmc15m",),
    "pmc-open-access": ("pmcopenaccess", "pmcoa"),
    "brats-2019": ("brats2019", "brats19"),
    "brats-2020": ("brats2020", "brats20"),
    "brats-2021": ("brats2021", "brats21"),
    "dentex": ("dentex",),
}
OVERLAPS = (
    Overlap("rsna-pneumonia", "nih-chestxray14", "its images, given new boxes", "https://doi.org/10.1148/ryai.2019180041 and the challenge's page at rsna.org"),
    Overlap("siim-acr-pneumothorax", "nih-chestxray14", "its images, given outlines of pneumothorax", "https://doi.org/10.1007/s10278-019-00299-9"),
    Overlap("chestx-det10", "nih-chestxray14", "some of its images, given new boxes", "https://arxiv.org/abs/2006.10550"),
    Overlap("nih-google", "nih-chestxray14", "some of its images, read anew", "https://doi.org/10.1148/radiol.2019191293"),
    Overlap("chexpert-plus", "chexpert", "its studies with reports and DICOM files", "https://arxiv.org/abs/2405.19538"),
    Overlap("brats-2020", "brats-2019", "its subjects and more", "https://www.med.upenn.edu/cbica/brats2020/data.html"),
    Overlap("brats-2021", "brats-2020", "its subjects under other numbers, and more", "https://arxiv.org/abs/2107.02314"),
    Overlap("generalblockchain-covid", "ieee8023-covid", "100 of its images, given outlines",
            "https://github.com/GeneralBlockchain/covid-19-chest-xray-segmentations-dataset"),
    Overlap("v7-covid-lungs", "ieee8023-covid", "its images, given lung outlines", "https://github.com/v7labs/covid-19-xray-dataset"),
    Overlap("v7-covid-lungs", "kermany-pneumonia", "its images, given lung outlines", "https://github.com/v7labs/covid-19-xray-dataset"),
    Overlap("covidx", "ieee8023-covid", "its images", "https://doi.org/10.1038/s41598-020-76550-z"),
    Overlap("covidx", "rsna-pneumonia", "its images", "https://doi.org/10.1038/s41598-020-76550-z"),
    Overlap("covid19-radiography", "padchest", "2,473 of its images", "the README of the COVID-19 Radiography Database"),
    Overlap("covid19-radiography", "rsna-pneumonia", "8,851 normal images of it, and more", "the README of the COVID-19 Radiography Database"),
    Overlap("covid19-radiography", "ieee8023-covid", "images from its repository", "the README of the COVID-19 Radiography Database"),
    Overlap("ieee8023-covid", "pmc-open-access", "figures of publications", "https://arxiv.org/abs/2003.11597"),
    Overlap("pmc-15m", "pmc-open-access", "figures of publications", "https://arxiv.org/abs/2303.00915"),
    *(Overlap("chexmask", s, "masks of its images", "https://arxiv.org/abs/2307.03293")
      for s in ("candid-ptx", "nih-chestxray14", "chexpert", "mimic-cxr", "padchest", "vindr-cxr")),
)
_SIZE = re.compile(r"(?:64|96|128|192|224|256|320|384|512|1024|small)(?:px)?$")


def corpus_of(*names: str) -> str:
    """The public corpus that one of a set's names (id, name) says it is of; "" where none does.

    Case, signs and a size at the end say nothing: `CheXpert_256` is chexpert. A set without the patients that another one shares is told apart
    by an id of its own.
    """
    for name in names:
        plain = re.sub(r"[^a-z0-9]", "", name.lower())
        for candidate in (plain, _SIZE.sub("", plain)):
            for corpus, known in ALIASES.items():
                if candidate in known or candidate == corpus.replace("-", ""):
                    return corpus
    return ""


def sources_of(corpus: str) -> dict[str, tuple[Overlap, ...]]:
    """Every corpus whose images it holds, itself first (with no overlap), and the overlaps that lead there."""
    found: dict[str, tuple[Overlap, ...]] = {corpus: ()}
    open_ = [corpus]
    while open_:
        here = open_.pop()
        for overlap in OVERLAPS:
            if overlap.holder == here and overlap.source not in found:
                found[overlap.source] = (*found[here], overlap)
                open_.append(overlap.source)
    return found


def meeting(one: str, other: str) -> str:
    """Why images of one corpus may be in another, with who says so; "" where nothing is known. Names as `corpus_of` gives them."""
    if not one or not other:
        return ""
    if one == other:
        return f"both are {one}"
    mine, theirs = sources_of(one), sources_of(other)
    shared = [c for c in mine if c in theirs]
    if not shared:
        return ""
    nearest = min(shared, key=lambda c: len(mine[c]) + len(theirs[c]))
    return "; ".join(f"{o.holder} holds {o.what}, of {o.source} ({o.said_by})" for o in (*mine[nearest], *theirs[nearest]))
