"""Finds the package that provides a module, among installed and known ones. Never guesses: anybody may own a package of a guessed name."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.metadata import Distribution

OTHER_NAMES = {
    "azure.ai.contentsafety": "azure-ai-contentsafety",
    "azure.ai.documentintelligence": "azure-ai-documentintelligence",
    "azure.ai.evaluation": "azure-ai-evaluation",
    "azure.ai.formrecognizer": "azure-ai-formrecognizer",
    "azure.ai.inference": "azure-ai-inference",
    "azure.ai.ml": "azure-ai-ml",
    "azure.ai.projects": "azure-ai-projects",
    "azure.ai.textanalytics": "azure-ai-textanalytics",
    "azure.cognitiveservices.speech": "azure-cognitiveservices-speech",
    "azure.core": "azure-core",
    "azure.cosmos": "azure-cosmos",
    "azure.data.tables": "azure-data-tables",
    "azure.functions": "azure-functions",
    "azure.identity": "azure-identity",
    "azure.keyvault.secrets": "azure-keyvault-secrets",
    "azure.mgmt.resource": "azure-mgmt-resource",
    "azure.monitor.opentelemetry": "azure-monitor-opentelemetry",
    "azure.monitor.query": "azure-monitor-query",
    "azure.search.documents": "azure-search-documents",
    "azure.servicebus": "azure-servicebus",
    "azure.storage.blob": "azure-storage-blob",
    "azure.storage.queue": "azure-storage-queue",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "docx2txt": "docx2txt",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu",
    "fitz": "PyMuPDF",
    "git": "GitPython",
    "google.auth": "google-auth",
    "google.cloud.bigquery": "google-cloud-bigquery",
    "google.cloud.storage": "google-cloud-storage",
    "google.genai": "google-genai",
    "google.generativeai": "google-generativeai",
    "google.protobuf": "protobuf",
    "googleapiclient": "google-api-python-client",
    "jwt": "PyJWT",
    "langchain_community": "langchain-community",
    "langchain_core": "langchain-core",
    "langchain_openai": "langchain-openai",
    "langchain_text_splitters": "langchain-text-splitters",
    "llama_index": "llama-index",
    "magic": "python-magic",
    "mysql.connector": "mysql-connector-python",
    "OpenSSL": "pyOpenSSL",
    "PIL": "pillow",
    "pkg_resources": "setuptools<81",
    "pptx": "python-pptx",
    "promptflow": "promptflow",
    "promptflow.azure": "promptflow-azure",
    "promptflow.evals": "promptflow-evals",
    "promptflow.tools": "promptflow-tools",
    "promptflow_vectordb": "promptflow-vectordb",
    "psycopg2": "psycopg2-binary",
    "rest_framework": "djangorestframework",
    "semantic_kernel": "semantic-kernel",
    "sentence_transformers": "sentence-transformers",
    "serial": "pyserial",
    "serpapi": "google-search-results",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "win32com": "pywin32, which is for Windows only",
    "yaml": "PyYAML",
    "zmq": "pyzmq",
}
"""Packages by the modules that they provide, where the names differ or several packages share one."""

SAME_NAMES = frozenset([
    "aiofiles", "aiohttp", "altair", "anthropic", "anyio", "apscheduler", "arize", "arxiv", "asyncpg", "autogen", "backoff", "bleach",
    "bokeh", "boto3", "botocore", "cachetools", "celery", "certifi", "chainlit", "chardet", "chromadb", "click", "cohere", "colorama",
    "cryptography", "dash", "dask", "datasets", "deepeval", "diskcache", "duckdb", "emoji", "evaluate", "fastapi", "feedparser",
    "filelock", "flask", "ftfy", "fuzzywuzzy", "gensim", "gradio", "graphviz", "groq", "gunicorn", "html2text", "httpx",
    "huggingface_hub", "hypothesis", "imageio", "instructor", "jinja2", "joblib", "jsonlines", "jsonpatch", "jsonschema", "keras",
    "langchain", "langdetect", "langfuse", "langgraph", "langsmith", "litellm", "llmlingua", "loguru", "lxml", "markdown",
    "markdownify", "marshmallow", "matplotlib", "mistralai", "mlflow", "more_itertools", "motor", "msal", "neo4j", "nest_asyncio",
    "networkx", "nltk", "numexpr", "numpy", "ollama", "openai", "openpyxl", "opentelemetry", "orjson", "packaging", "pandas",
    "paramiko", "pdfminer", "pdfplumber", "peewee", "pinecone", "plotly", "polars", "prettytable", "psutil", "psycopg", "pyarrow",
    "pycountry", "pydantic", "pydantic_settings", "pydub", "pygments", "pymongo", "pymssql", "pymysql", "pyodbc", "pypdf",
    "pypdfium2", "pyperclip", "pytesseract", "pytest", "pytz", "qdrant_client", "ragas", "rank_bm25", "rapidfuzz", "redis", "regex",
    "reportlab", "requests", "rich", "rouge", "rouge_score", "sacrebleu", "scipy", "seaborn", "selenium", "sentencepiece", "shapely",
    "simplejson", "six", "snowflake", "spacy", "sqlalchemy", "sqlparse", "starlette", "streamlit", "sympy", "tabulate", "tenacity",
    "tensorflow", "textblob", "textstat", "thefuzz", "tiktoken", "tokenizers", "toml", "torch", "torchvision", "tqdm", "trafilatura",
    "transformers", "typer", "tzlocal", "ujson", "unstructured", "urllib3", "uvicorn", "validators", "weasyprint", "weaviate",
    "websockets", "werkzeug", "wikipedia", "xgboost", "xlrd", "xlsxwriter", "xmltodict", "yfinance",
])  # fmt: skip
"""Modules whose packages have the same name."""

REMOVED = {
    "asynchat": (3, 12),
    "asyncore": (3, 12),
    "cgi": (3, 13),
    "crypt": (3, 13),
    "distutils": (3, 12),
    "imghdr": (3, 13),
    "imp": (3, 12),
    "pipes": (3, 13),
    "smtpd": (3, 12),
    "telnetlib": (3, 13),
}
"""Modules removed from Python's standard library, and the first version without them."""


def known(module: str) -> str:
    """Return the requirement that provides the module, or an empty string if none is known."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        name = OTHER_NAMES.get(".".join(parts[:length]))
        if name:
            return name
    below = {name for key, name in OTHER_NAMES.items() if key.startswith(f"{module}.")}
    if len(below) == 1:
        return below.pop()
    return parts[0].replace("_", "-") if parts[0] in SAME_NAMES else ""


def owner(place: str) -> Distribution | None:
    """Return the installed distribution whose RECORD has this file or folder, or None."""
    import importlib.metadata

    place = os.path.realpath(place)
    for distribution in importlib.metadata.distributions():
        root = os.path.realpath(str(distribution.locate_file("")))
        if place.startswith(root + os.sep) and _has(distribution, os.path.relpath(place, root).replace(os.sep, "/")):
            return distribution
    return None


def version_of(distribution: Distribution) -> str:
    """Return name and version: `langchain 1.3.14`."""
    return f"{distribution.metadata['Name']} {distribution.version}"


def older_than(distribution: Distribution) -> str:
    """Return a requirement for versions older than the installed one: `langchain<1`."""
    first, _, rest = distribution.version.partition(".")
    bound = first if first.isdigit() and int(first) else f"{first}.{rest.partition('.')[0]}"
    return f"{distribution.metadata['Name']}<{bound}"


def _has(distribution: Distribution, path: str) -> bool:
    record = distribution.read_text("RECORD")
    return bool(record) and any(line.startswith((f"{path},", f"{path}/", f'"{path}')) for line in (record or "").splitlines())
