"""Questions to the sample documents, each with words that only the passages have that answer it."""

from __future__ import annotations

from dataclasses import dataclass

PAPER, WIKI, CARD = "two-column-paper.pdf", "wikipedia-saved.html", "korean-tables.pdf"
DOCX, INVOICE, README = "paper.docx", "invoice-multipage-tables.pdf", "readme.md"


@dataclass(frozen=True, slots=True)
class Labelled:
    """A passage of `sample` that holds one of `answers` is relevant."""

    question: str
    sample: str
    answers: tuple[str, ...]


def _about(sample: str, *pairs: tuple[str, str | tuple[str, ...]]) -> list[Labelled]:
    return [Labelled(question, sample, (found,) if isinstance(found, str) else found) for question, found in pairs]


LABELLED = [
    *_about(
        PAPER,
        ("How many failed attempts until a trace is not recorded again soon?", "passed a few more times"),
        ("When does the system start a trace tree at a loop header?", "executed a certain number of times"),
        ("What happens when a guard fails?", ("If one of the guards fails", "A guard is just a group of LIR")),
        ("What is a guard?", "A guard is just a group of LIR"),
        ("Why are nested loops hard for a tracing VM?", "Nested loops can be difficult to optimize"),
        ("How does the register allocator choose what to spill?", ("greedy register allocator", "minimum vm")),
        ("Which benchmark suite was used for the evaluation?", "industry standard JavaScript benchmark suite"),
        ("What is the oracle for?", ("which we call the “oracle”", "consult the oracle")),
        ("How are property lookups made fast?", ("assigned an integer key", "the prototype of o", "object shape")),
        ("How was the correctness of the tracing VM tested?", "JSFUNFUZZ"),
        ("What does nanojit do?", ("NANOJIT, is separate", "runs the backward optimization filters")),
        ("How does the interpreter stop scripts that loop without end?", "infinitely looping scripts"),
        ("What is trace stitching?", "in a feature called trace stitching"),
        ("How many people use Firefox?", "more than 200 million users"),
        ("Why not recompile the whole trace tree whenever a branch is added?", "quadratic in the number of traces"),
        ("How are numbers represented in JavaScript?", "JavaScript has no integer type"),
        ("How does tracing achieve inlining of functions?", "achieving function inlining"),
        ("What do external functions do to the call stack?", ("re-materialize", "out-of-date call")),
        ("Which filters does the compiler run backwards?", "We currently apply three backward filters"),
        ("How many CPU cycles does it take to record a bytecode?", "3800 cycles per bytecode"),
        ("Which recursion support is planned?", "do not trace across recursive function calls"),
        ("Who funded the work?", "sponsored by the National Science Foundation"),
        ("What are fat bytecodes good for?", "Fat bytecodes have two advantages"),
        ("blacklisting of outer loops during startup", "The blacklisting algorithm needs modification"),
        ("type-unstable loops", ("type-unstable loops", "with a different type map")),
        ("What is a typed trace?", "A typed trace is a trace annotated"),
        ("What is Psyco?", "Psyco"),
        ("Warum ist SpiderMonkey der Interpreter für diese Implementierung?", "SpiderMonkey JavaScript Virtual"),
        ("trace activation record variables unboxed", "imports local and global variables"),
        ("How is a trace entered from the interpreter for the first time?", "must hit a loop edge and enter the"),
    ),
    *_about(
        WIKI,
        ("Who founded Microsoft and when?", ("founded by Bill Gates and Paul Allen", "Founders | Bill Gates")),
        ("What was Traf-O-Data?", "they founded Traf-O-Data"),
        ("When did Microsoft go public?", ("went public on March 13", "opening stock price was $21", "1986 initial")),
        ("Which operating system did Microsoft buy to make MS-DOS?", "CP/M clone called 86-DOS"),
        ("How much did Microsoft pay for Nokia's phone business?", "buy Nokia's mobile unit for $7 billion"),
        ("Who became chairman when Nadella took over as CEO?", "John W. Thompson took on the role"),
        ("What did Windows 95 introduce?", "released Windows 95 on August 24"),
        ("How large was the fine of the European Union over Windows?", "€497 million"),
        ("What did Toyota Tsusho and Microsoft make together?", "fish farming"),
        ("When was Windows 11 released to the public?", "announced Windows 11 during a Livestream"),
        ("What is embrace, extend, and extinguish?", "Embrace, extend, and extinguish"),
        ("Who are the largest shareholders?", "The Vanguard Group"),
        ("What does dog food mean at Microsoft?", "eating your own dog food"),
        ("How many jobs were cut in 2014?", "plans to lay off 18,000"),
        ("Who designed the Pac-Man logo?", "designed by Scott Baker"),
        ("How much did the Activision Blizzard acquisition cost?", "deal worth $68.7 billion"),
        ("Which Russian attack was disclosed in January 2024?", "Russian state-sponsored group hacked"),
        ("When will Microsoft be carbon negative?", "carbon negative by 2030"),
        ("Which football or basketball team did Microsoft sponsor?", "jersey sponsor of Finland"),
        ("Where is Microsoft's flagship store?", "retail location on Fifth Avenue"),
        ("Why did Microsoft sue the US government in 2016?", "sued the U.S. government"),
        ("What was the revenue in 2022?", "2022 | 198,270"),
        ("Who were the chief executives?", "Steve Ballmer (2000–2014)"),
        ("Which military headset contract did employees protest against?", "protested the company's war"),
        ("How does Microsoft avoid taxes in Puerto Rico?", "U.S. profits to Puerto Rico"),
        ("ISIN of Microsoft", "US5949181045"),
        ("exclusive license GPT-3", "exclusive license to use OpenAI"),
        ("Xbox first release", "released the Xbox later that year"),
        ("Kinect capabilities", "The Kinect, a motion-sensing"),
        ("Why was the first quarterly loss posted?", "first quarterly loss ever"),
        ("Wann hat Steve Ballmer den Posten des CEO übernommen?", ("handed over the CEO", "replaced Gates as CEO")),
        (
            "マイクロソフトのCEO Satya Nadella",
            ("succeeded by Satya Nadella", "Satya Nadella (2014", "CEO Satya Nadella"),
        ),
    ),
    *_about(
        CARD,
        ("주유소에서 적립은 얼마나 되나요?", "주유	모든 주유소"),
        ("커피전문점 적립률", "커피전문점·제과점·편의점 2%"),
        ("빅포인트의 유효기간은?", "빅포인트의 유효기간은 5년"),
        ("전월 이용금액에서 제외되는 것은 무엇인가요?", "건강보험/국민연금"),
        ("스타벅스 사이렌오더 혜택", "사이렌오더"),
        ("온라인쇼핑몰 쿠팡", "쿠팡"),
        ("전월 이용금액은 언제부터 언제까지인가요?", "매월 1일부터 말일까지"),
    ),
    *_about(
        DOCX,
        ("What is AutoGen?", "AutoGen is an open-source framework"),
        ("Why are multi-agent conversations useful for complex tasks?", "tasks are broken into simpler subtasks"),
        (
            "What may developers use to program agent interactions?",
            ("in natural language or code", "natural language and"),
        ),
    ),
    *_about(
        INVOICE,
        ("Who insured the Jeep Grand Cherokee?", "Gabriel Diaz"),
        ("What is the claim number of Bruce Wayne?", "Bruce Wayne"),
        ("Grand total of the estimate with 278.46 sales tax", "278.46"),
    ),
    *_about(
        README,
        ("How do I download an XBRL 10-K with curl?", "curl -O"),
        ("stylesheets example factbook", "factbook.xml"),
    ),
    *_about("shift-jis.csv", ("佐藤太郎の住所", "佐藤太郎"), ("大阪に住んでいる人", "大阪")),
    *_about("sheet.xlsx", ("Alpha Beta Gamma Delta table", "Alpha | Beta")),
    *_about("attachment.eml", ("Who sent the email with an attachment?", "From: Mallori Harrell")),
    *_about("book.epub", ("What is the blockquote for?", "blockquote for testing")),
]
SAMPLES = tuple(dict.fromkeys([*(label.sample for label in LABELLED), "slides.pptx", "outline-mistitled.pdf"]))
