"""The image in an environment's status: which one it keeps, whether a newer one exists, and the results of requests."""

from collections.abc import Mapping

from flowsession.api.environment import ImageOrigin
from flowsession.api.source import SourceWarning
from flowsession.images import check as imagechecks
from flowsession.images import reference as imageref
from flowsession.images.check import ImageCheck, Question
from flowsession.images.image import CHECK, CHECK_ANNOTATION, IMAGE_REQUESTS, UPDATE, UPDATE_ANNOTATION, Image
from flowsession.model import times
from flowsession.model.conditions import Verdict
from flowsession.reconcile import requests
from flowsession.reconcile.environment.draft import Draft
from flowsession.settings import Settings

NEWER = "NewerImageAvailable"
WITHOUT = "ImageWithoutPromptflow"
NOT_ASKED = "RegistryNotAllowed"


def judge_image(draft: Draft, image: Image) -> None:
    """Write what is known about the image, ask its registry, and carry out an update."""
    facts, settings = draft.snapshot.image, draft.snapshot.settings
    pending = {what: value for what in IMAGE_REQUESTS if (value := requests.pending(draft, what))}
    same_image = draft.before.get("baseImage") == image.name
    draft.put("baseImage", image.name)
    draft.put("baseImageFrom", image.origin)
    draft.put("imageDigest", facts.reported or None)
    draft.put("pullAnew", None if image.pinned or not image.pull_anew or _has_digest(facts.reported, image) else True)
    check = _answer(draft, pending, image)
    waits = draft.question is not None
    updated = UPDATE in pending and not waits
    if updated:
        _update(draft, image, check, moved=not same_image)
    if not waits:
        for what in pending:
            requests.done(draft, what)
    if check is not None and check.reason != NOT_ASKED:
        draft.put("imageCheckedAt", times.stamp(draft.now))
    elif not same_image:
        draft.put("imageCheckedAt", None)
    verdict, latest = _newest(draft, image, check, settings, stands=same_image and not updated)
    draft.put("latestImage", latest)
    draft.set_condition(NEWER, verdict.status, verdict.reason, verdict.message)


def without_promptflow(draft: Draft, image: Image) -> tuple[SourceWarning, ...]:
    """Return the warning about a custom image without prompt flow. It stays until the image changes or a session reports otherwise."""
    status, facts = draft.before, draft.snapshot.image
    if image.origin is ImageOrigin.DEFAULT:
        return ()
    known = any(warning.get("code") == WITHOUT for warning in status.get("warnings") or ()) and status.get("baseImage") == image.name
    if facts.promptflow or (facts.promptflow is None and not known):
        return ()
    message = (
        f"image {image.name} has no prompt flow, so sessions can't run flows; build it from the runtime image, or install promptflow in it"
    )
    return (SourceWarning(code=WITHOUT, message=message),)


def _answer(  # noqa: PLR0911 - one return for each reason not to ask
    draft: Draft, pending: Mapping[str, str], image: Image
) -> ImageCheck | None:
    """Return the registry's answer. None if it need not or must not be asked, or is asked only now (`draft.question`)."""
    status, facts, settings = draft.before, draft.snapshot.image, draft.snapshot.settings
    reference, every = imageref.parse(image.name), settings.images.check_every_seconds
    if reference is None or reference.digest or _default_moved(image, settings):
        return None
    if UPDATE in pending and status.get("baseImage") != image.name:
        return None  # the update changes to another image
    checked = times.parse(status.get("imageCheckedAt"))
    due = (checked or 0.0) + every if every else float("inf")
    if not pending and draft.now < due:
        draft.look_again(due)
        return None
    token = "|".join((pending.get(UPDATE, ""), pending.get(CHECK, ""), status.get("imageCheckedAt") or ""))
    question = Question(image.name, token, imageref.digest_in(facts.reported, image.name))
    if not imagechecks.may_ask(reference, settings):
        if not pending:
            return None
        message = (
            f"the operator asks only registries that the chart's images.allowedRegistries names, and {reference.registry} is missing there"
        )
        return ImageCheck(question, reason=NOT_ASKED, message=f"{message}; add it there, or compare {image.name} by hand")
    if facts.check is not None and (facts.check.question.image, facts.check.question.token) == (image.name, token):
        return facts.check
    draft.question = question
    return None


def _update(draft: Draft, image: Image, check: ImageCheck | None, *, moved: bool) -> None:
    """Update to the tag's present digest, and write the result. If the registry did not answer, have nodes pull the tag, but only if their
    image came from a registry: otherwise they would lose it."""
    settings, was = draft.snapshot.settings, draft.snapshot.image.reported
    never = settings.image_pull_policy == "Never"
    newest = f"{imageref.without_tag(image.name)}@{check.digest}" if check is not None and check.digest and not never else ""
    draft.put("imageDigest", newest or (None if moved else was or None))
    draft.put("pullAnew", None)
    reset = "sessions that run take it up by the annotation flowsession.dev/reset-requested-at"
    if not moved and (stays := _stays(image, check, settings, was)):
        draft.put("imageDigest", was or None)
        draft.event(warning=False, reason="ImageUpToDate", message=f"nothing has changed: {stays}")
    elif newest or moved:
        message = f"sessions start from {newest or image.name} from now on; {reset}"
        draft.event(warning=False, reason="ImageUpdated", message=message)
    elif _has_digest(was, image):
        draft.put("imageDigest", None)
        draft.put("pullAnew", True)
        message = f"sessions that start from now on get what the nodes' own pull of {image.name} brings; {reset}; {_not_asked(check)}"
        draft.event(warning=True, reason="ImagePulledAnew", message=message)
    else:
        message = f"nothing has changed: sessions go on starting from {image.name} by its tag; {_not_asked(check)}"
        draft.event(warning=True, reason="ImageNotUpdated", message=message)


def _stays(image: Image, check: ImageCheck | None, settings: Settings, was: str) -> str:
    """Return why the update changes nothing; empty if it may change something."""
    reference, has = imageref.parse(image.name), imageref.digest_in(was, image.name)
    if reference is not None and reference.digest:
        return f"{image.name} is named by its digest, so there is no newer one by this name"
    if settings.image_pull_policy == "Never":
        return f"nodes never pull (runtime.image.pullPolicy), so sessions start from the {image.name} that was loaded onto their node"
    if check is not None and has and (has == check.digest or (check.same and has == check.question.known)):
        return f"{image.name} is still {has}"
    return ""


def _not_asked(check: ImageCheck | None) -> str:
    """Return why the tag's present digest is unknown."""
    return f"the registry did not say what it is now: {check.message if check is not None else 'it was not asked'}"


def _newest(  # noqa: PLR0911 - one return for each verdict
    draft: Draft, image: Image, check: ImageCheck | None, settings: Settings, *, stands: bool
) -> tuple[Verdict, str | None]:
    """Return the condition NewerImageAvailable, and the newest known image."""
    take = f"take it by the annotation {UPDATE_ANNOTATION}"
    if _default_moved(image, settings):
        return Verdict(True, "NewerDefault", f"the default image is now {settings.runtime_image}, and this is {image.name}; {take}"), (
            settings.runtime_image
        )
    if check is not None:
        return _by_check(image, check, settings, draft.status.get("imageDigest") or "", take)
    old, latest = draft.was(NEWER), draft.before.get("latestImage")
    if stands and old is not None and old.reason not in ("NewerDefault", "IsDefault", "FixedDigest"):
        has = imageref.digest_in(draft.status.get("imageDigest") or "", image.name)
        if old.reason not in ("NotStarted", "NotComparable") or not has:
            return Verdict({"True": True, "False": False}.get(old.status), old.reason, old.message), latest
        if latest and latest.endswith(f"@{has}"):
            return Verdict(False, "UpToDate", f"{image.name} is still {has}"), latest
    reference = imageref.parse(image.name)
    ask = f"ask whether its tag has moved by the annotation {CHECK_ANNOTATION}"
    if reference is not None and reference.digest:
        return Verdict(False, "FixedDigest", "the image is named by its digest, so there is no newer one by this name"), None
    if image.origin is ImageOrigin.DEFAULT:
        return Verdict(False, "IsDefault", f"{image.name} is the present default image; {ask}"), None
    return Verdict(None, "NotChecked", f"the registry was not asked yet; {ask}"), None


def _by_check(image: Image, check: ImageCheck, settings: Settings, known: str, take: str) -> tuple[Verdict, str | None]:
    if check.reason:
        return Verdict(None, check.reason, check.message), None
    newest = f"{imageref.without_tag(image.name)}@{check.digest}"
    has = imageref.digest_in(known, image.name)
    if has and has != check.digest and not (check.same and has == check.question.known):
        return Verdict(True, "TagMoved", f"{image.name} is now {check.digest}, and sessions start from {has}; {take}"), newest
    if known and not has:
        message = f"the nodes' {image.name} ({known}) did not come from the registry, where that name means {check.digest}"
        return Verdict(None, "NotComparable", f"{message}; {take} to have it pulled from there"), newest
    if moved := _base_moved(check, settings):
        return Verdict(True, "BaseImageMoved", f"{image.name} {moved}; rebuild it, and then {take}"), newest
    if not known:
        return Verdict(False, "NotStarted", f"{image.name} is {check.digest}, and no session has started from it yet"), newest
    return Verdict(False, "UpToDate", f"{image.name} is still {check.digest}"), newest


def _base_moved(check: ImageCheck, settings: Settings) -> str:
    """Return how the base image has changed since the build; empty if it has not, as far as known."""
    base = check.base
    if base is None:
        return ""
    named, default = imageref.parse(base.name), imageref.parse(settings.runtime_image)
    if named and default and named.name == default.name and named.tag != default.tag and not named.digest:
        return f"was built on {base.name}, and the runtime image is now {settings.runtime_image}"
    if base.digest and base.now and base.digest != base.now:
        return f"was built on {base.name} when that was {base.digest}, and it is now {base.now}"
    return ""


def _default_moved(image: Image, settings: Settings) -> bool:
    return image.origin is ImageOrigin.DEFAULT and image.name != settings.runtime_image


def _has_digest(reported: str, image: Image) -> bool:
    return bool(imageref.digest_in(reported, image.name))
