"""Sets that say nothing of who is in them: neutral file names, pixels alone, keyed hashes for subjects.

`prepare ... --pseudonymise` does this to a finished draft. A copied PNG or JPEG keeps its text chunks, EXIF and profile, and its file
name; here each picture is decoded and written again as a plain grey PNG, 000000.png and on in the order of rows. Subjects become keyed
hashes (lineage.hash_subjects) that only the holder of the project's key can link. What stays is what was asked for by name: labels, attributes,
the dataset's name and id. Digests are those of the new files, so that the set is not recognised by fingerprint beside one that was not
pseudonymised. Nothing is said of faces or of text in the pixels.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from synthrad.data.images import files_digest, read_image, write_image
from synthrad.lineage import hash_subjects, project_key
from synthrad.records import HERE, DatasetInfo


def pseudonymise(columns: dict[str, Any], info: DatasetInfo, draft: Path, root: Path, out: Path) -> DatasetInfo:
    """Change columns and files of a draft in place.

    Args:
        columns: of the manifest. info: with roots. draft: the folder that becomes `out`. root: where pictures are that are not stored in it.

    Returns:
        the info with the set's own folder as its only root.
    """
    for part in ("images", "masks"):  # neutral names may be those of other files of the draft
        (draft / part).mkdir(exist_ok=True)
        os.replace(draft / part, draft / f"named-{part}")
    for row in range(len(columns["root"])):
        paths = []
        for channel in info.channels:
            name = f"images/{row:06d}.png" if len(info.channels) == 1 else f"images/{channel}/{row:06d}.png"
            old = columns[f"channel:{channel}"][row]
            write_image(draft / name, read_image(draft / f"named-{old}" if columns["root"][row] == HERE else root / old))
            columns[f"channel:{channel}"][row] = name
            paths.append(draft / name)
        columns["digest"][row] = files_digest(paths)
        columns["root"][row] = HERE
        for layer in info.layers:  # masks are plain already
            if old := columns[f"mask:{layer}"][row]:
                new = columns[f"mask:{layer}"][row] = f"masks/{layer}/{row:06d}.png"
                (draft / new).parent.mkdir(parents=True, exist_ok=True)
                os.replace(draft / f"named-{old}", draft / new)
    for part in ("images", "masks"):
        shutil.rmtree(draft / f"named-{part}")
    key = project_key()
    hashes = {s: next(iter(hash_subjects(info.id, [s], key))) for s in set(columns["subject"])}
    columns["subject"][:] = [hashes[s] for s in columns["subject"]]
    for name in [c for c in columns if c.startswith("origin:")]:
        columns[name][:] = ""
    return replace(info, roots={HERE: str(out)})

