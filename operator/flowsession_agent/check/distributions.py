"""Which package brings a module that is missing, where its name is another one."""

from __future__ import annotations

OTHER_NAMES = {
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu",
    "fitz": "PyMuPDF",
    "git": "GitPython",
    "jwt": "PyJWT",
    "magic": "python-magic",
    "OpenSSL": "pyOpenSSL",
    "PIL": "pillow",
    "pptx": "python-pptx",
    "psycopg2": "psycopg2-binary",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}


def missing(module: str) -> str:
    """The sentence about a module that can't be found."""
    top = module.partition(".")[0]
    if top == "promptflow":
        name = "promptflow-tools" if module.startswith("promptflow.tools") else "promptflow"
        return f"No module named {module!r}: use the default image, or build {name} into yours"
    name = OTHER_NAMES.get(top) or (module.replace(".", "-") if top in ("azure", "google") else top.replace("_", "-"))
    return f"No module named {module!r}: add {name} to the requirements, or build it into the image"
