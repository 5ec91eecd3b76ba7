"""Sets that say nothing of who is in them: neutral file names, pixels alone, pseudonyms for subjects.

`prepare ... --pseudonymise` does this to a finished draft. A copied PNG or JPEG keeps its text chunks, EXIF and profile, and its file
name; here each picture is decoded and written again as a plain grey PNG, 000000.png and on in the order of rows. Subjects become pseudonyms
(lineage.pseudonym) that only the holder of the project's key can link. What stays is what was asked for by name: labels, attributes,
the dataset's name and id. Digests are those of the new files, so that the set is not recognised by fingerprint beside one that was not
pseudonymised. Nothing is said of faces or of text in the pixels.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from synthrad.data.images import files_digest, read_image, write_image
from synthrad.dataset_info import HERE, DatasetInfo
from synthrad.errors import naming
from synthrad.lineage import project_key, pseudonym


def pseudonymise(columns: dict[str, Any], info: DatasetInfo, draft: Path, root: Path, into: Path) -> DatasetInfo:
    """Change columns in place and write the files that they then name into a folder of their own, emptied first: a killed run starts this again.

    Args:
        columns: of the manifest. info: with roots. draft: where pictures and masks of the set are; it stays as it is. root: where
            the other pictures are. into: folder of the new files.

    Returns:
        the info with `into` as its only root.
    """
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir()
    for row in range(len(columns["root"])):
        paths = []
        for channel in info.channels:
            name = f"images/{row:06d}.png" if len(info.channels) == 1 else f"images/{channel}/{row:06d}.png"
            old = columns[f"channel:{channel}"][row]
            write_image(into / name, read_image((draft if columns["root"][row] == HERE else root) / old))
            columns[f"channel:{channel}"][row] = name
            paths.append(into / name)
        columns["digest"][row] = files_digest(paths)
        columns["root"][row] = HERE
        for layer in info.layers:  # masks are plain already
            if old := columns[f"mask:{layer}"][row]:
                new = columns[f"mask:{layer}"][row] = f"masks/{layer}/{row:06d}.png"
                (into / new).parent.mkdir(parents=True, exist_ok=True)
                with naming(into / new):
                    shutil.copyfile(draft / old, into / new)
    key = project_key()
    hashes = {s: pseudonym(info.id, s, key) for s in set(columns["subject"])}
    columns["subject"][:] = [hashes[s] for s in columns["subject"]]
    for name in [c for c in columns if c.startswith("origin:")]:
        columns[name][:] = ""
    return replace(info, roots={HERE: str(into)})
