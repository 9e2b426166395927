"""`anadil transcribe`."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from anadil.cli.console import FAULT, ConsoleReporter, channel_option, verb
from anadil.cli.options import Engine, number, provider
from anadil.cli.transcribe_live import STDIN, parse_latency, stream_file, stream_microphone, stream_stdin

if TYPE_CHECKING:
    from anadil.audio import Channel
    from anadil.decoding.decoder import Decoder
    from anadil.decoding.transcript import Transcript
    from anadil.recognition.recognizer import Recognizer

T = TypeVar("T")

EXAMPLE = "Example: anadil transcribe exported/mdw recordings/ --format json --out transcripts"


class Format(enum.StrEnum):
    TEXT = "text"
    JSON = "json"
    SRT = "srt"
    VTT = "vtt"
    TEXTGRID = "textgrid"
    EAF = "eaf"
    AUDACITY = "audacity"
    CTM = "ctm"


_SUFFIXES = {Format.TEXT: ".txt", Format.TEXTGRID: ".TextGrid", Format.AUDACITY: ".txt"}
"""File suffixes of the formats for which it is not the format's name."""
_ONE_RECORDING = (Format.SRT, Format.VTT, Format.TEXTGRID, Format.EAF, Format.AUDACITY)
"""Formats in which a file holds the transcript of one recording only."""


@verb
def transcribe(
    model: Annotated[Path, typer.Argument(help="Exported folder (fast, without PyTorch), model folder or .nemo.")],
    audio: Annotated[
        list[Path] | None,
        typer.Argument(help="Audio files, and folders to search for them; - for raw samples from stdin (--stream)."),
    ] = None,
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            help="json has word times and confidences; srt and vtt are subtitles; textgrid (Praat) and eaf (ELAN) have "
            "tiers of utterances and words.",
        ),
    ] = Format.TEXT,
    out: Annotated[
        Path | None, typer.Option(help="Folder for one file per recording; without it, everything goes to stdout.")
    ] = None,
    channel: Annotated[
        str,
        typer.Option(
            metavar="mix|split|left|right|N",
            help="mix averages the channels of a recording, split transcribes each by itself, N is a number from 1.",
        ),
    ] = "mix",
    live: Annotated[
        bool,
        typer.Option(
            "--stream", help="Recognise one recording, or stdin, bit by bit as if it were live; text or json."
        ),
    ] = False,
    mic: Annotated[bool, typer.Option("--mic", help="Recognise the microphone until Ctrl-C (extra mic).")] = False,
    device: Annotated[
        str | None, typer.Option(help="With --mic: number of the input device, or part of its name.")
    ] = None,
    rate: Annotated[
        int | None,
        number(4000, 384_000, "With -: samples per second; they are 16-bit signed little-endian, mono. Default 16000."),
    ] = None,
    latency: Annotated[
        str | None,
        typer.Option(
            metavar="low|medium|high|SECONDS",
            help="With --stream or --mic: how long a word waits for later audio until it is final. Default medium.",
        ),
    ] = None,
    n_best: Annotated[
        int,
        typer.Option("--n-best", min=0, max=1000, help="With --format json: so many alternatives with their scores."),
    ] = 0,
    hotword: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WORD[:WEIGHT]", help="Word or phrase to expect; the weight is in nats, 4 by default. Repeatable."
        ),
    ] = None,
    hotwords: Annotated[Path | None, typer.Option(help="File of hotwords, one WORD[:WEIGHT] per line.")] = None,
    no_lm: Annotated[bool, typer.Option("--no-lm", help="Decode without the model's language model.")] = False,
    engine: Annotated[
        Engine | None,
        typer.Option(
            help="For much speech: manifests and recordings to OUT/shards/*.jsonl, on this machine (local) or on a cluster "
            "(ray; of RAY_ADDRESS, or of this machine's cores). The same command goes on after an interruption."
        ),
    ] = None,
    provider_name: Annotated[str, provider()] = "cpu",
    shard_size: Annotated[
        int | None, number(1, 1_000_000, "With --engine: utterances per shard.", show_default="200")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace earlier transcripts.")] = False,
) -> None:
    """Recognise recordings of any length. One that cannot be read is named, the others are still recognised (exit status 1)."""
    wanted = channel_option(channel)
    given = audio or []
    if n_best and form is not Format.JSON:
        raise typer.BadParameter(f"--n-best needs --format json; {form} has one text per recording")
    expected = [*(hotword or ()), *(_lines(hotwords) if hotwords else ())]
    is_live = mic or live or STDIN in given
    _refuse_unused(
        {
            "--n-best": bool(n_best) and (is_live or engine is not None),
            "--hotword": bool(expected) and (is_live or engine is not None),
            "--provider": provider_name != "cpu" and (is_live or engine is not None),
            "--engine": engine is not None and is_live,
            "--force": force and is_live,
            "--device": device is not None and not is_live,
            "--rate": rate is not None and not is_live,
            "--latency": latency is not None and not is_live,
            "--shard-size": shard_size is not None and engine is None,
        }
    )
    if is_live:
        _check_live(given, form, out, wanted, live, mic, device, rate)
        run_live(model, given, form, wanted, mic, device, rate, latency or "medium", lm=not no_lm)
        return
    if not given:
        raise typer.BadParameter("give audio files or folders, or --mic", param_hint="AUDIO")
    from anadil.recognition.load import load

    if engine is not None:
        return _in_shards(model, given, form, out, wanted, not no_lm, engine, shard_size or 200, force)
    sources = find_audio(given)
    jobs = split_channels(sources) if wanted == "split" else [Job(source, wanted) for source in sources]
    targets = plan_outputs(jobs, form, out, force)
    with ConsoleReporter() as report:
        recognizer = load(model, lm=not no_lm, provider=provider_name, warn=report.warn)
        if provider_name != "cpu":
            report.say(f"provider: {recognizer.provider}")
    decoder = recognizer.decoder_with(n_best, expected)
    failed = _transcribe_all(
        recognizer,
        decoder,
        jobs,
        lambda transcript, job: _deliver(transcript, job, form, targets.get(job), alone=len(jobs) == 1),
    )
    if failed:
        typer.echo(f"warning: {len(failed):,} of {len(sources):,} recordings could not be read", err=True)
        raise typer.Exit(FAULT)


def _refuse_unused(unused: dict[str, bool]) -> None:
    """Raise BadParameter for an option that would have no effect: with what it goes."""
    goes_with = {
        "--device": "goes with --mic",
        "--rate": "goes with --stream",
        "--latency": "goes with --stream and --mic",
        "--shard-size": "goes with --engine",
    }
    for option, is_unused in unused.items():
        if is_unused:
            where = goes_with.get(option, "goes with neither --engine nor --stream nor --mic")
            if option in ("--engine", "--force"):
                where = "does not go with --stream and --mic"
            raise typer.BadParameter(f"{where}; leave it out", param_hint=option)


def _transcribe_all(
    recognizer: Recognizer, decoder: Decoder, jobs: list[Job], deliver: Callable[[Transcript, Job], None]
) -> set[Path]:
    """Recognise all jobs and deliver their transcripts in order. Returns the recordings that failed, which are named."""
    from anadil.audio import probe
    from anadil.errors import AnadilError

    notes: Counter[str] = Counter()
    failed: set[Path] = set()
    n_without = 0
    with ConsoleReporter() as report:
        found = recognizer.transcribe_files([(job.source, job.channel) for job in jobs], decoder)
        for done, (index, outcome) in enumerate(_in_order(found), start=1):
            job = jobs[index]
            try:
                if isinstance(outcome, AnadilError):
                    raise outcome
                if outcome.duration == 0:
                    raise AnadilError(f"audio has no samples: {job.source}")
                notes.update(probe(job.source).notes_for(job.channel))
                n_without += bool(decoder.n_best and outcome.words and not outcome.alternatives)
                deliver(outcome, job)
            except AnadilError as error:
                failed.add(job.source)
                report.warn(str(error) if str(job.source) in str(error) else f"{job.source}: {error}")
            report.progress("transcribing", done, len(jobs), job.source.name)
        for note, count in notes.items():
            report.warn(f"{count:,} x {note}")
        if n_without:
            report.warn(
                f"{n_without:,} recordings have no alternatives: nobody pauses in them for {recognizer.longest_s:g} s"
            )
    return failed


def _lines(path: Path) -> list[str]:
    """The lines of a file of hotwords. Raises AnadilError if it is missing or no text."""
    from anadil.errors import AnadilError
    from anadil.lm.texts import read_lines

    bad: list[object] = []
    lines = [line for _, line in read_lines([str(path)], bad.append)]
    if bad:
        raise AnadilError(f"{bad[0]}\n  next: give a text file with a word per line")
    return lines


def _check_live(
    audio: list[Path],
    form: Format,
    out: Path | None,
    channel: Channel | Literal["split"],
    live: bool,
    mic: bool,
    device: str | None,
    rate: int | None,
) -> None:
    """Raise BadParameter for options that do not belong together."""
    if STDIN in audio and not live:
        raise typer.BadParameter("- (stdin) needs --stream")
    if mic and (audio or live):
        raise typer.BadParameter("--mic takes no audio files and no --stream: it recognises live as it is")
    if not mic and len(audio) != 1:
        raise typer.BadParameter(f"--stream takes one recording, found {len(audio)}")
    if audio and audio[0].is_dir():
        raise typer.BadParameter(f"--stream takes one recording, and {audio[0]} is a folder")
    if form not in (Format.TEXT, Format.JSON):
        raise typer.BadParameter(f"results that come live are text or json, not {form}")
    if out is not None:
        raise typer.BadParameter("results that come live go to stdout: redirect it with > FILE instead of --out")
    if channel == "split" or (channel != "mix" and (mic or STDIN in audio)):
        raise typer.BadParameter(f"--channel {channel} is for files, and split for files without --stream")
    if device is not None and not mic:
        raise typer.BadParameter("--device is for --mic")
    if rate is not None and STDIN not in audio:
        raise typer.BadParameter("--rate is for raw samples from stdin (-); files and devices tell theirs")


def run_live(
    model: Path,
    audio: list[Path],
    form: Format,
    channel: Channel | Literal["split"],
    mic: bool,
    device: str | None,
    rate: int | None,
    latency: str,
    lm: bool,
) -> None:
    """Recognise the microphone, stdin or one file, and print results while it goes on."""
    from anadil.recognition.load import load

    wait = parse_latency(latency)
    recognizer, as_json = load(model, lm=lm), form is Format.JSON
    if mic:
        stream_microphone(recognizer, device, wait, as_json)
    elif audio[0] == STDIN:
        stream_stdin(recognizer, rate or 16000, wait, as_json)
    else:
        assert channel != "split"
        stream_file(recognizer, audio[0], channel, wait, as_json)


@dataclass(frozen=True)
class Job:
    """One transcript to make: a recording, and which of its channels."""

    source: Path
    channel: Channel = "mix"
    is_split: bool = False  # the other channels have transcripts of their own

    @property
    def stem(self) -> str:
        """Name of its output without the suffix."""
        return f"{self.source.stem}-channel{self.channel}" if self.is_split else self.source.stem


def split_channels(sources: list[Path]) -> list[Job]:
    """Return a job for each channel of each recording; one that cannot be read is left to fail in its turn."""
    from anadil.audio import probe
    from anadil.errors import AnadilError

    jobs: list[Job] = []
    for source in sources:
        try:
            n_channels = probe(source).channels
        except AnadilError:
            n_channels = 1
        jobs += [Job(source, n, is_split=n_channels > 1) for n in range(1, n_channels + 1)]
    return jobs


def _in_order(found: Iterator[tuple[int, T]]) -> Iterator[tuple[int, T]]:
    """The same in the order of the indices, which are all from 0 on."""
    waiting: dict[int, T] = {}
    following = 0
    for index, one in found:
        waiting[index] = one
        while following in waiting:
            yield following, waiting.pop(following)
            following += 1


def find_audio(paths: list[Path]) -> list[Path]:
    """Return the files, and in folders those that look like audio by name. Raises AnadilError if a folder has none."""
    from anadil.errors import AnadilError
    from anadil.sound_files import EXTENSIONS, MEDIA_EXTENSIONS

    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        known = EXTENSIONS | MEDIA_EXTENSIONS
        inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in known and file.is_file())
        if not inside:
            why = f"looked for {', '.join(sorted(known))}" if any(path.iterdir()) else "the folder is empty"
            raise AnadilError(f"no audio in {path}: {why}\n  next: give recordings, or a folder that holds some")
        found += inside
    return list(dict.fromkeys(found))


def plan_outputs(jobs: list[Job], form: Format, out: Path | None, force: bool) -> dict[Job, Path]:
    """Return the output file of each job. Raises AnadilError before any work if names clash or files exist."""
    from anadil.errors import AnadilError
    from anadil.files import refuse_overwrite

    spaced = [str(job.source) for job in jobs if form is Format.CTM and len(job.source.stem.split()) != 1]
    if spaced:
        raise AnadilError(
            f"CTM names cannot contain white space: {', '.join(spaced[:3])}\n  next: rename these recordings"
        )
    if out is None:
        if form in _ONE_RECORDING and len(jobs) > 1:
            raise AnadilError(
                f"a file of format {form} holds one recording only, and there are {len(jobs):,}\n"
                "  next: add --out DIR, to write one file per recording"
            )
        return {}
    suffix = _SUFFIXES.get(form, f".{form}")
    targets = {job: out / (job.stem + suffix) for job in jobs}
    clashes = [str(target) for target, count in Counter(targets.values()).items() if count > 1]
    if clashes:
        targets = {job: out / (job.source.name + job.stem[len(job.source.stem) :] + suffix) for job in jobs}
        if len(set(targets.values())) < len(jobs):
            raise AnadilError(
                f"several recordings would be written to {clashes[0]}\n"
                "  next: transcribe one folder at a time, each with its own --out"
            )
    for target in targets.values():
        refuse_overwrite(target, force)
    return targets


def _deliver(transcript: Transcript, job: Job, form: Format, target: Path | None, alone: bool) -> None:
    """Write one transcript to its file, or print it. With `alone`, text is printed without the file name."""
    from anadil.files import whole_file

    if form is Format.TEXT:
        name = f"{job.source} channel {job.channel}" if job.is_split else str(job.source)
        content = (transcript.text if alone or target else f"{name}\t{transcript.text}") + "\n"
    else:
        content = _format(transcript, job, form)
    if target is None:
        print(content, end="", flush=True)
        return
    with whole_file(target) as beside:
        beside.write_text(content, encoding="utf-8", newline="\n")


def _format(transcript: Transcript, job: Job, form: Format) -> str:
    """The transcript as text in one of the formats with times."""
    if form is Format.JSON:
        import json

        about = {"audio_filepath": str(job.source)} | ({"channel": job.channel} if job.is_split else {})
        return json.dumps(about | transcript.to_dict(), ensure_ascii=False) + "\n"
    from anadil.corpora import audacity, ctm, elan, subtitles, textgrid
    from anadil.decoding.cues import cues, word_segments
    from anadil.decoding.cues import subtitles as subtitle_cues

    if form is Format.CTM:
        channel = "1" if job.channel == "mix" else str(job.channel)
        words = ((word, max(0.0, word.end - word.start)) for word in transcript.words)
        return ctm.format_ctm(
            [
                ctm.TimedWord(job.source.stem, channel, word.start, length, word.text, word.confidence)
                for word, length in words
            ]
        )
    if form in (Format.SRT, Format.VTT):
        return (subtitles.format_srt if form is Format.SRT else subtitles.format_vtt)(subtitle_cues(transcript))
    utterances = cues(transcript)
    if form is Format.AUDACITY:
        return audacity.format_audacity(utterances)
    tiers = {"utterances": utterances, "words": word_segments(transcript)}
    if form is Format.EAF:
        return elan.format_eaf(tiers, job.source)
    return textgrid.format_textgrid(tiers, transcript.duration)


def _in_shards(
    model: Path,
    inputs: list[Path],
    form: Format,
    out: Path | None,
    channel: Channel | str,
    lm: bool,
    engine: Engine,
    shard_size: int,
    force: bool,
) -> None:
    """Transcribe into shards of JSONL; what an earlier run has done is kept."""
    from anadil.cluster import SHARDS
    from anadil.recognition.bulk import plan, transcribe_here, transcribe_on_ray

    if out is None:
        raise typer.BadParameter("--engine writes shards: give --out DIR")
    if form not in (Format.TEXT, Format.JSON) or channel != "mix" or force:
        raise typer.BadParameter(
            "--engine writes JSONL and goes on with what is there: leave out --format, --force and --channel (the key channel of "
            "a manifest chooses one)"
        )
    manifests = [path for path in inputs if path.suffix == ".jsonl" and path.is_file()]
    others = [path for path in inputs if path not in manifests]
    run = transcribe_on_ray if engine is Engine.RAY else transcribe_here
    with ConsoleReporter() as report:
        shards = plan(model, manifests, find_audio(others) if others else [], out, shard_size)
        report.say(f"{sum(shard.n_lines for shard in shards):,} utterances in {len(shards):,} shards")
        counts = run(model, shards, out, lm, lambda done, of: report.progress("transcribing", done, of))
        kept = f", {counts.kept:,} were done before" if counts.kept else ""
        report.say(f"{counts.done:,} transcribed{kept}; in {out / SHARDS}")
        print(out / SHARDS)
        if counts.failed:
            report.warn(f'{counts.failed:,} could not be transcribed: their lines have the key "error"')
            raise typer.Exit(FAULT)


command = transcribe
