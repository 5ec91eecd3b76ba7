"""Which public sets hold images of which others: a test set that another set annotates anew is no test set for what that one trained."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Overlap:
    """`holder` holds images of `source`.

    Args:
        what: how many or which. said_by: the page that says so, with its address. verified: somebody has read it there (the rows were checked one by one in
            November 2026); else it is what is told, and every message says that.
    """

    holder: str
    source: str
    what: str
    said_by: str
    verified: bool = True

    def __str__(self) -> str:
        return f"{self.holder} holds {self.what}, of {self.source} ({self.said_by}{'' if self.verified else '; unverified'})"


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
RSNA_PAGE = "RSNA Pneumonia Detection Challenge (2018), about the challenge, https://www.rsna.org/education/ai-resources-and-training/ai-image-challenge/rsna-pneumonia-detection-challenge-2018"
SIIM_PAGE = "SIIM-ACR Pneumothorax Segmentation Kaggle Challenge, https://siim.org/research-journal/siim-machine-learning-challenges/pneumothorax-kaggle-challenge/"
DET10_PAGE = "ChestX-Det10-Dataset, README, https://github.com/Deepwise-AILab/ChestX-Det10-Dataset (arXiv 2006.10550)"
GOOGLE_PAGE = "torchxrayvision, datasets.py, NIH_Google_Dataset, https://github.com/mlmed/torchxrayvision; the labels are of Majkowska et al., https://doi.org/10.1148/radiol.2019191293"
V7_PAGE = "v7labs, README, data sources, https://github.com/v7labs/covid-19-xray-dataset"
COVIDX_PAGE = "COVID-Net, docs/COVIDx.md, https://github.com/lindawangg/COVID-Net (Wang et al., https://doi.org/10.1038/s41598-020-76550-z)"
QATAR_PAGE = "README.md.txt of the COVID-19 Radiography Database, https://www.kaggle.com/datasets/tawsifurrahman/covid19-radiography-database"
CHEXMASK_PAGE = "CheXmask 0.1, abstract (candid-ptx left it with 0.2), https://physionet.org/content/chexmask-cxr-segmentation-data/0.1/"
OVERLAPS = (
    Overlap("rsna-pneumonia", "nih-chestxray14", "its images, given new boxes", f"{RSNA_PAGE}; Shih et al., https://doi.org/10.1148/ryai.2019180041"),
    Overlap("siim-acr-pneumothorax", "nih-chestxray14", "its images, given outlines of pneumothorax", SIIM_PAGE),
    Overlap("chestx-det10", "nih-chestxray14", "3,543 of its images, given new boxes", DET10_PAGE),
    Overlap("nih-google", "nih-chestxray14", "some of its images, read anew", GOOGLE_PAGE),
    Overlap("chexpert-plus", "chexpert", "its studies with reports and DICOM files", "Chambon et al., abstract, https://arxiv.org/abs/2405.19538"),
    Overlap("brats-2020", "brats-2019", "its subjects and more", "BraTS 2020, Data, https://www.med.upenn.edu/cbica/brats2020/data.html; name_mapping.csv of the set has a column BraTS_2019_subject_ID"),
    Overlap("brats-2021", "brats-2020", "its subjects under other numbers, and more", "the challenge's overview at Synapse, copied in BraTS'21 code: the data are those of BraTS'20, updated with "
            "many more scans; Baid et al., https://arxiv.org/abs/2107.02314"),
    Overlap("generalblockchain-covid", "ieee8023-covid", "100 of its images, given outlines",
            "README, about the dataset, https://github.com/GeneralBlockchain/covid-19-chest-xray-segmentations-dataset"),
    Overlap("v7-covid-lungs", "ieee8023-covid", "517 of its images, given lung outlines", V7_PAGE),
    Overlap("v7-covid-lungs", "kermany-pneumonia", "5,863 of its images, given lung outlines", V7_PAGE),
    Overlap("covidx", "ieee8023-covid", "its images", COVIDX_PAGE),
    Overlap("covidx", "rsna-pneumonia", "its images", COVIDX_PAGE),
    Overlap("covidx", "covid19-radiography", "its images of COVID-19", COVIDX_PAGE),
    Overlap("covid19-radiography", "padchest", "2,473 of its images", QATAR_PAGE),
    Overlap("covid19-radiography", "rsna-pneumonia", "8,851 normal images of it, and 6,012 with opacities", QATAR_PAGE),
    Overlap("covid19-radiography", "kermany-pneumonia", "1,341 normal images of it, and 1,345 of viral pneumonia", QATAR_PAGE),
    Overlap("covid19-radiography", "ieee8023-covid", "images from its repository", f"{QATAR_PAGE}: from GitHub, which repository is in its list of sources that was not seen", verified=False),
    Overlap("ieee8023-covid", "pmc-open-access", "figures of publications", "README, https://github.com/ieee8023/covid-chestxray-dataset: figures of publications, not which are of PubMed Central", verified=False),
    Overlap("pmc-15m", "pmc-open-access", "figures of publications", "BiomedCLIP, model card and https://arxiv.org/abs/2303.00915: figures of articles in PubMed Central"),
    *(Overlap("chexmask", s, "masks of its images", CHEXMASK_PAGE) for s in ("candid-ptx", "nih-chestxray14", "chexpert", "mimic-cxr", "padchest", "vindr-cxr")),
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
    return "; ".join(map(str, (*mine[nearest], *theirs[nearest])))
