"""Put a run's data, and the earlier runs that it builds on, on disk before prompt flow begins."""

from __future__ import annotations

import os
import shutil

from flowsession_agent.errors import ApiError
from flowsession_agent.session import flow_folder, run_order, run_outputs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from flowsession_agent.settings import Home
    from flowsession_protocol import messages


def prepared(order: messages.RunOrder, folder: str, home: Home, *, root: str, outputs: str, before: str) -> dict[str, Any]:
    """Return members for the order of the run's process: `data`, `shown`, `earlier` and `resume`, those that apply.

    Content in the order is written below `folder` and removed from the order. `root`: the flow folder. `before`: the folder of what an
    earlier agent left of this run, which may not exist. Raises ApiError, OSError.
    """
    if "outputsClaim" in order:
        on_claim(home, order["outputsClaim"])
        os.makedirs(outputs, exist_ok=True)
    found = _data(order, folder, home, root)
    earlier = _earlier(order, folder, home)
    if earlier:
        found["earlier"] = _named(earlier)
    resumed = before if os.path.isdir(before) else _resumed(order, folder, home)
    if resumed:
        run_outputs.drop_unreadable(resumed)
        if run_outputs.complete(resumed):
            found["resume"] = _named(resumed)
    for member in ("dataFile", "earlier", "resume"):
        order.pop(member, None)  # type: ignore[misc] # they are on disk now
    return found


def on_claim(home: Home, where: messages.ClaimPath) -> str:
    """Return the path of a file or folder on a claim. Raises ApiError if the session does not mount the claim."""
    claim = os.path.join(home.claims, where["claim"])
    if not home.claims or not os.path.isdir(claim):
        message = f"the session does not mount the claim {where['claim']!r}: add it to spec.claims of the session, and reset it"
        raise ApiError(422, "DataNotFound", message)
    return os.path.join(claim, where["path"])


def _data(order: messages.RunOrder, folder: str, home: Home, root: str) -> dict[str, Any]:
    if "dataClaim" in order:
        where = order["dataClaim"]
        return {"data": on_claim(home, where), "shown": f"{where['path']} on claim {where['claim']}"}
    if "dataFile" in order:
        file = order["dataFile"]
        content = run_order.content_of(file["content"])
        flow_folder.put(folder, os.path.join("data", file["name"]), lambda target: target.write(content))
        return {"data": os.path.join(folder, "data", file["name"]), "shown": file["name"]}
    if "data" in order:
        return {"data": os.path.join(root, order["data"]), "shown": order["data"]}
    return {}


def _earlier(order: messages.RunOrder, folder: str, home: Home) -> str:
    """Return the folder of the earlier run whose outputs are data; empty if the order has none."""
    if "earlierClaim" in order:
        return _kept_on_claim(home, order["earlierClaim"])
    return _unpacked(order["earlier"], os.path.join(folder, "earlier")) if "earlier" in order else ""


def _resumed(order: messages.RunOrder, folder: str, home: Home) -> str:
    """Return the folder of the run to resume, a copy since prompt flow writes there; empty if the order has none."""
    if "resumeClaim" in order:
        kept = _kept_on_claim(home, order["resumeClaim"])
        found = os.path.join(folder, "resume", os.path.basename(kept))
        shutil.copytree(kept, found)
    elif "resume" in order:
        found = _unpacked(order["resume"], os.path.join(folder, "resume"))
    else:
        return ""
    if not os.path.isdir(os.path.join(found, run_outputs.RECORDS)):
        message = f"of run {os.path.basename(found)} no records of its lines were kept, they were too large: run it whole"
        raise ApiError(422, "DataInvalid", message)
    return found


def _unpacked(earlier: messages.EarlierRun, below: str) -> str:
    folder = os.path.join(below, earlier["name"])
    run_outputs.unpack(run_order.content_of(earlier["archive"]), folder)
    return folder


def _kept_on_claim(home: Home, where: messages.ClaimPath) -> str:
    folder = on_claim(home, where)
    if not os.path.isdir(folder):
        message = f"there is no {where['path']} on claim {where['claim']}, which had the outputs of the earlier run: create that run again"
        raise ApiError(422, "DataInvalid", message)
    return folder


def _named(folder: str) -> dict[str, str]:
    return {"name": os.path.basename(folder), "folder": folder}
