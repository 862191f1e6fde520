"""What the shipped recipes say in each language: right script, right letters, right direction."""

import unicodedata

from langadapt.recipes import LanguageRecipe
from langadapt.recipes.find import language_table, shipped_folder, words_of

SCRIPTS = {
    "Arab": {"ARABIC"},
    "Armn": {"ARMENIAN"},
    "Beng": {"BENGALI"},
    "Cyrl": {"CYRILLIC"},
    "Deva": {"DEVANAGARI"},
    "Ethi": {"ETHIOPIC"},
    "Geor": {"GEORGIAN"},
    "Grek": {"GREEK"},
    "Gujr": {"GUJARATI"},
    "Guru": {"GURMUKHI"},
    "Hans": {"CJK"},
    "Hant": {"CJK"},
    "Hebr": {"HEBREW"},
    "Jpan": {"CJK", "HIRAGANA", "KATAKANA"},
    "Khmr": {"KHMER"},
    "Knda": {"KANNADA"},
    "Kore": {"CJK", "HANGUL"},
    "Laoo": {"LAO"},
    "Latn": {"LATIN"},
    "Mlym": {"MALAYALAM"},
    "Mymr": {"MYANMAR"},
    "Olck": {"OL"},
    "Orya": {"ORIYA"},
    "Sinh": {"SINHALA"},
    "Taml": {"TAMIL"},
    "Telu": {"TELUGU"},
    "Tfng": {"TIFINAGH"},
    "Thai": {"THAI"},
    "Tibt": {"TIBETAN"},
}
JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
RIGHT_TO_LEFT = {
    "ar", "fa", "he", "ps", "sd", "ug", "ur",
    "ace-arab", "acm", "acq", "aeb", "ajp", "apc", "ars", "ary", "arz", "azb", "bjn-arab", "ckb",
    "knc-arab", "ks", "prs", "yi",
}  # fmt: skip
UNNAMED = {"ace-arab", "ajp", "bjn-arab", "knc-arab"}
"""Languages whose name in their own script was not found: they are called by the English one."""

# Letters beyond a to z that a language is written with; those of its neighbours would be a slip.
LETTERS = {
    "ay": "äñ",
    "cs": "áčďéěíňóřšťúůýž",
    "da": "æøåé",
    "de": "äöüß",
    "es": "áéíñóúü",
    "fi": "äöå",
    "fil": "ñ",
    "fr": "àâçéèêëîïôœùûü",
    "gn": "ãẽĩñõũỹáéíóúýʼ",
    "ha": "ɓɗƙƴ",
    "hr": "čćđšž",
    "hu": "áéíóöőúüű",
    "id": "",
    "ig": "ịọụṅ",
    "it": "àèéìòù",
    "ln": "áâéíóúɛɔ",
    "mi": "āēīōū",
    "nl": "éëïóöü",
    "no": "æøåéô",
    "pl": "ąćęłńóśźż",
    "pt": "áâãàçéêíóôõú",
    "qu": "ñ",
    "ro": "ăâîșț",
    "rw": "",
    "so": "",
    "sv": "åäöé",
    "sw": "",
    "tr": "çğıöşüâ",
    "uz": "ʻ",
    "wo": "àéëñŋó",
    "xh": "",
    "zu": "",
}
# Letters of another language in the same script.
FOREIGN = {
    "ar": "یکگپچ",
    "fa": "يكة",
    "kk": "їє",
    "ky": "іқғ",
    "mn": "іқғң",
    "ps": "ك",
    "ru": "іїєґ",
    "uk": "ыэёъ",
    "ur": "يكة",
    "hi": "ळ",
    "zh": "這個門",
}


def texts(recipe: LanguageRecipe) -> list[str]:
    prompts = [prompt.replace("{label}", "") for prompt in recipe.prompts]
    native = [] if recipe.code in UNNAMED else [recipe.native_name]
    return [*native, *prompts, *recipe.examples, *words_of(recipe.code).values()]


def letters(recipe: LanguageRecipe) -> set[str]:
    return {letter for text in texts(recipe) for letter in text if unicodedata.category(letter)[0] in "LM"}


def test_words_are_in_the_scripts_that_the_recipe_names(languages: dict[str, LanguageRecipe]):
    for code, recipe in languages.items():
        wanted = {word for script in recipe.scripts for word in SCRIPTS[script]}
        found = {letter: unicodedata.name(letter).replace("-", " ").split()[0] for letter in letters(recipe)}
        # Marks that belong to no script: Yoruba's tones above dotted letters, Uzbek's turned comma.
        wrong = {letter for letter, word in found.items() if word not in wanted | {"COMBINING", "MODIFIER"}}
        assert not wrong, code
        for text in texts(recipe):
            assert text == "" or any(found.get(letter) in wanted for letter in text), (code, text)


def test_words_are_in_the_letters_of_the_language(languages: dict[str, LanguageRecipe]):
    assert set(LETTERS) | set(FOREIGN) <= set(languages)
    for code, recipe in languages.items():
        beyond = {letter.lower() for letter in letters(recipe) if not letter.isascii()}
        assert code not in LETTERS or beyond <= set(LETTERS[code]), code
        assert not beyond & set(FOREIGN.get(code, "")), code


def test_words_are_clean(languages: dict[str, LanguageRecipe]):
    for code, recipe in languages.items():
        spoken = (*recipe.prompts, *recipe.examples, *words_of(code).values())
        for text in (recipe.name, recipe.native_name, *spoken):
            assert text == unicodedata.normalize("NFC", text) == text.strip(), (code, text)
            assert "  " not in text, (code, text)
            assert all(letter.isprintable() or letter in JOINERS for letter in text), (code, text)


def test_a_prompt_names_the_label_once_and_says_something(languages: dict[str, LanguageRecipe]):
    for code, recipe in languages.items():
        assert all(prompt.count("{label}") == 1 == prompt.count("{") for prompt in recipe.prompts), code
        assert not recipe.prompts or sum(prompt != "{label}" for prompt in recipe.prompts) >= 4, code


def test_the_direction_is_that_of_the_script(languages: dict[str, LanguageRecipe]):
    for code, recipe in languages.items():
        strong = {unicodedata.bidirectional(letter) for letter in letters(recipe)} - {"NSM"}
        right_to_left = bool(strong & {"R", "AL"})
        assert (recipe.direction == "rtl") == (code in RIGHT_TO_LEFT), code
        assert right_to_left == (code in RIGHT_TO_LEFT and bool(texts(recipe))), code
        assert not (right_to_left and "L" in strong), code


def test_the_demo_speaks_most_languages_and_shows_no_mark():
    table = language_table(shipped_folder("languages"))
    assert words_of("de") == {"search": "Suchen", "picture": "Bild", "similar": "Ähnliche"}
    assert table["de"]["similar"] == "Ähnliche*", "machine-made"
    assert words_of("und") == words_of("ace") == {}
    assert sum(bool(words_of(code)) for code in table) >= 120
    assert not any("*" in word for code in table for word in words_of(code).values())
