"""Google FLEURS: the same 2,009 sentences in 102 languages; `<lang>/train.tsv` without a header, audio/<split>/*.wav.

The columns are: number of the sentence, file, sentence as written, sentence in lower case without punctuation, its
characters, samples at 16 kHz, gender. Speakers are not identified; up to three of them read each sentence.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from anadil.corpora.archive import archive_stem, archives_in, unpack_if_archive
from anadil.corpora.download import Progress, RemoteFile, fetch_all, read_page
from anadil.corpora.reader import Options, Reject
from anadil.corpora.recordings import safe_path
from anadil.corpora.text_files import stream_lines
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

_LICENSE = "CC-BY-4.0"
_SAMPLE_RATE = 16000
SPLITS = ("train", "dev", "test")
_N_COLUMNS = 7
_HOST = "https://huggingface.co"
_LOCALES = """af_za am_et ar_eg as_in ast_es az_az be_by bg_bg bn_in bs_ba ca_es ceb_ph ckb_iq cmn_hans_cn cs_cz cy_gb da_dk
    de_de el_gr en_us es_419 et_ee fa_ir ff_sn fi_fi fil_ph fr_fr ga_ie gl_es gu_in ha_ng he_il hi_in hr_hr hu_hu hy_am
    id_id ig_ng is_is it_it ja_jp jv_id ka_ge kam_ke kea_cv kk_kz km_kh kn_in ko_kr ky_kg lb_lu lg_ug ln_cd lo_la lt_lt
    luo_ke lv_lv mi_nz mk_mk ml_in mn_mn mr_in ms_my mt_mt my_mm nb_no ne_np nl_nl nso_za ny_mw oc_fr om_et or_in pa_in
    pl_pl ps_af pt_br ro_ro ru_ru sd_in sk_sk sl_si sn_zw so_so sr_rs sv_se sw_ke ta_in te_in tg_tj th_th tr_tr uk_ua
    umb_ao ur_pk uz_uz vi_vn wo_sn xh_za yo_ng yue_hant_hk zu_za"""
LOCALES = tuple(_LOCALES.split())


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """Yield the utterances of all splits of one language.

    `text` is the sentence in lower case, `extra["raw_text"]` the sentence as written. Raises AnadilError if `source` has
    no split, or several languages of which none was chosen.
    """
    folder = _language_folder(unpack_if_archive(source, options.unpack_to), options)
    locale = folder.name if folder.name in LOCALES else None
    for split in SPLITS:
        if not (folder / f"{split}.tsv").is_file():
            continue
        places = _audio_folders(folder, split, options)
        for line in stream_lines(folder / f"{split}.tsv", reject):
            cells = line.text.split("\t")
            if len(cells) != _N_COLUMNS:
                reject(Problem(line.where, f"{len(cells)} columns, but a row of FLEURS has {_N_COLUMNS}"))
                continue
            number, name, raw_text, text, _, n_samples, gender = cells
            candidates = [path for place in places if (path := safe_path(place, name))]
            if not candidates:
                reject(Problem(line.where, f"the file name is empty or leads out of the corpus: {name!r}"))
                continue
            yield Utterance(
                audio_filepath=str(next((path for path in candidates if path.is_file()), candidates[0])),
                duration=int(n_samples) / _SAMPLE_RATE if n_samples.isdecimal() and int(n_samples) else None,
                text=text,
                language=_code(locale) if locale else options.language,
                extra={"split": split, "license": _LICENSE, "raw_text": raw_text, "sentence_id": number}
                | ({"gender": gender.lower()} if gender else {})
                | ({"locale": locale} if locale else {}),
                source=line.where,
            )


def download(language: str | None, parts: Sequence[str], out: Path, progress: Progress) -> list[Path]:
    """Download one language from its public repository, which lists sizes and SHA-256 checksums. Raises AnadilError."""
    locale = _locale(language)
    listing = f"{_HOST}/api/datasets/google/fleurs/tree/main/data/{locale}?recursive=true"
    try:
        listed = {entry["path"]: entry for entry in json.loads(read_page(listing)) if entry["type"] == "file"}
    except (ValueError, KeyError, TypeError) as error:
        raise AnadilError(
            f"{listing} is not a listing of files any more: {error}\n  next: report this as a bug of Anadil"
        ) from error
    names = [name for split in SPLITS for name in (f"{split}.tsv", f"audio/{split}.tar.gz")]
    files = []
    for name in names:
        path = f"data/{locale}/{name}"
        if path not in listed:
            raise AnadilError(
                f"{listing} does not list {path}\n  next: check whether FLEURS has moved: anadil corpora fleurs"
            )
        checksum = listed[path].get("lfs", {}).get("oid")
        files.append(
            RemoteFile(
                f"{_HOST}/datasets/google/fleurs/resolve/main/{path}",
                f"{locale}/{name}",
                listed[path].get("size"),
                f"sha256:{checksum.removeprefix('sha256:')}" if checksum else None,
            )
        )
    return fetch_all(files, out, progress)


def _locale(language: str | None) -> str:
    """The locale of a language: "tr_tr" for "tr". Raises AnadilError if FLEURS does not have it."""
    if language and language.lower().replace("-", "_") in LOCALES:
        return language.lower().replace("-", "_")
    matches = [locale for locale in LOCALES if _code(locale) == language]
    if len(matches) == 1:
        return matches[0]
    raise AnadilError(
        f"FLEURS has no language {language!r}; it has: {', '.join(LOCALES)}\n  next: choose one with --lang"
    )


def _code(locale: str) -> str:
    return locale.partition("_")[0]


def _language_folder(folder: Path, options: Options) -> Path:
    if not folder.is_dir():
        raise AnadilError(f"{folder} is not a folder of FLEURS\n  next: check the path")
    folders = sorted({path.parent for split in SPLITS for path in folder.rglob(f"{split}.tsv")})
    if len(folders) > 1 and options.language:
        folders = [inner for inner in folders if options.language in (inner.name, _code(inner.name))]
    if len(folders) == 1:
        return folders[0]
    if not folders:
        chosen = f" for --lang {options.language}" if options.language else ""
        raise AnadilError(
            f"{folder} holds no train.tsv, dev.tsv or test.tsv of FLEURS{chosen}\n"
            "  next: check the path, or download it: anadil download fleurs --lang tr --out DIR"
        )
    names = ", ".join(inner.name for inner in folders)
    raise AnadilError(f"{folder} holds several languages: {names}\n  next: choose one with --lang")


def _audio_folders(folder: Path, split: str, options: Options) -> list[Path]:
    """The folders in which the recordings of a split may be; unpacks the split's archive if there is one."""
    places = [folder / "audio" / split / split, folder / "audio" / split, folder / split, folder / "audio", folder]
    for place in (folder / "audio", folder):
        if place.is_dir():
            for archive in archives_in(place):
                if archive_stem(archive) == split:
                    unpack_to = options.unpack_to / folder.name if options.unpack_to else None
                    inside = unpack_if_archive(archive, unpack_to)
                    places = [inside / split, inside, *places]
    return places
