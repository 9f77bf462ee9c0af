"""A few sets of the corpus of requirements (corpus.py), on the runtime image's packages. `make test-corpus` runs all of them."""

from collections.abc import Iterator

import pytest

from . import corpus

KNOWN_TO_OVERLAP = {
    "an older one over the image's folder": "azure-core<1.41\n",
    "a package of the layer over the image's folder": "azure-monitor-opentelemetry==1.6.4\n",
    "a newer exporter under the image's package": "azure-monitor-opentelemetry-exporter==1.0.0b44\n",
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[corpus.Corpus]:
    with corpus.opened(tmp_path_factory.mktemp("corpus"), corpus.image()) as found:
        yield found


def test_the_corpus_is_what_it_says() -> None:
    texts = corpus.requirements()
    assert len(set(texts)) == corpus.COUNT >= 100
    assert texts == corpus.requirements(), "the same ones each time"
    names = {line.partition("=")[0].partition("<")[0].partition(">")[0] for text in texts for line in text.splitlines()}
    assert names >= {"promptflow[azure]", "azure-monitor-opentelemetry", "openai", "tiktoken", "protobuf", "faiss-cpu"}


@pytest.mark.parametrize("text", [*corpus.requirements()[:2], *KNOWN_TO_OVERLAP.values()])
def test_all_that_the_image_could_import_it_still_can(opened: corpus.Corpus, text: str) -> None:
    verdict = opened.check(abs(hash(text)), text)
    assert verdict.well, verdict
    assert verdict.state == "Succeeded", verdict
    assert verdict.brought or text not in KNOWN_TO_OVERLAP.values()
