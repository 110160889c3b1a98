"""Train the networks of translation: stages in order, each of which resumes where it stopped.

zerocon train translate [DATA] --work DIR --out DIR
"""

from __future__ import annotations

_PACKAGE = "zerocon.training."
STAGES: dict[str, str | type] = {
    "triplets": _PACKAGE + "triplets:TripletsStage",
    "matcher": _PACKAGE + "matcher:MatcherStage",
    "prior": _PACKAGE + "translation_denoiser:PriorStage",
    "denoiser": _PACKAGE + "translation_denoiser:DenoiserStage",
    "export": _PACKAGE + "translation_denoiser:TranslationExportStage",
}
FOLDER_STAGES = STAGES | {"triplets": _PACKAGE + "folder_triplets:FolderTripletsStage"}
