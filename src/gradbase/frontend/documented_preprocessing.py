"""What the reference says of preprocessing functions: (value, meaning, example) of each.

Names, kinds, ranges and defaults of the constant arguments are those of `SIGNATURES`.
"""

from __future__ import annotations

PREPROCESSING_DOCS: dict[str, tuple[str, str, str]] = {
    "STANDARD_SCALER": ("x", "(x - mean) / sample standard deviation.", "ML.STANDARD_SCALER(age) OVER ()"),
    "MIN_MAX_SCALER": (
        "x", "0 for the smallest value, 1 for the largest; later values outside are clipped.",
        "ML.MIN_MAX_SCALER(age) OVER ()",
    ),
    "MAX_ABS_SCALER": ("x", "x / the largest magnitude.", "ML.MAX_ABS_SCALER(fee) OVER ()"),
    "ROBUST_SCALER": (
        "x", "(x - median) / (high quantile - low quantile).",
        "ML.ROBUST_SCALER(fee, [10, 90], TRUE, TRUE) OVER ()",
    ),
    "NORMALIZER": ("array", "The array divided by its p-norm.", "ML.NORMALIZER([age, fee], 1)"),
    "BUCKETIZE": (
        "x", "The bucket of x between given points: `bin_1`, … from below; `'bucket_ranges'`: `[20, 40)`; without boundaries the outer points do not count.",
        "ML.BUCKETIZE(age, [20, 40, 60])",
    ),
    "QUANTILE_BUCKETIZE": (
        "x", "The bucket of x, about as many rows in each.", "ML.QUANTILE_BUCKETIZE(age, 4) OVER ()",
    ),
    "ONE_HOT_ENCODER": (
        "text", "`[{index, value: 1}]` of a text; the dropped one has value 0.",
        "ML.ONE_HOT_ENCODER(region, 'most_frequent', 100, 1) OVER ()",
    ),
    "LABEL_ENCODER": (
        "text", "1, 2, … in alphabetical order; 0 for NULL, rare or unknown.",
        "ML.LABEL_ENCODER(region, 100, 1) OVER ()",
    ),
    "MULTI_HOT_ENCODER": (
        "texts", "An (index, value) pair per distinct text of an array.",
        "ML.MULTI_HOT_ENCODER(string_split(note, ' '), 100, 1) OVER ()",
    ),
    "IMPUTER": (
        "x", "x, or that statistic where x is NULL or NaN; texts: most_frequent.",
        "ML.IMPUTER(region, 'most_frequent') OVER ()",
    ),
    "FEATURE_CROSS": (
        "STRUCT(a, b, …)", "A struct of `a_b`, …: values joined by `_`, from 2 to `degree` of them.",
        "ML.FEATURE_CROSS(STRUCT(region, note))",
    ),
    "POLYNOMIAL_EXPAND": (
        "STRUCT(a, b, …)", "A struct of products of 1 to `degree` numbers: `a`, `a_a`, `a_b`, ….",
        "ML.POLYNOMIAL_EXPAND(STRUCT(age, fee), 2)",
    ),
    "HASH_BUCKETIZE": (
        "text", "A hash of the text modulo the size; 0: the hash.", "ML.HASH_BUCKETIZE(region, 10)",
    ),
    "NGRAMS": (
        "texts", "Runs of neighbours of an array, of these lengths.",
        "ML.NGRAMS(string_split(note, ' '), [1, 2], '_')",
    ),
    "BAG_OF_WORDS": (
        "texts", "(index, count) pairs of an array of texts.",
        "ML.BAG_OF_WORDS(string_split(note, ' '), 100, 1) OVER ()",
    ),
    "TF_IDF": (
        "texts", "(index, count / length * ln(1 + rows / (1 + rows with the text))) pairs.",
        "ML.TF_IDF(string_split(note, ' '), 100, 1) OVER ()",
    ),
}  # fmt: skip
