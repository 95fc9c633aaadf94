"""One or more nodes of every class of the IR."""

from __future__ import annotations

import math
import struct

from gradbase.ir.analytic import Analytic
from gradbase.ir.conversion import (
    Category,
    MultiHot,
    Numeric,
    Sparse,
    ToTable,
    ToTensor,
    Vector,
)
from gradbase.ir.derived import Derived
from gradbase.ir.factored import Looked, Numbered, Picked, PredictJoined, RowNumber
from gradbase.ir.grouping import ByGroup, EvaluateGroups, FitGroups
from gradbase.ir.imported import Opaque, Text, Trees
from gradbase.ir.inspection import (
    COUNTS,
    SCORES,
    ClassCounts,
    CompareModels,
    ConfusionMatrix,
    DriftColumn,
    Keep,
    RocCurve,
    SchemaDrift,
    ScoreCounts,
    Weights,
)
from gradbase.ir.learning import (
    ClassWeight,
    Dataset,
    Evaluate,
    Feature,
    Fit,
    FusedFit,
    Learn,
    Mlp,
    Model,
    Optimizer,
    Predict,
    Preprocess,
    PythonNetwork,
    Search,
    Split,
)
from gradbase.ir.networks import Autoencoder, WideDeep
from gradbase.ir.preprocessing import (
    Bucketize,
    HashBucket,
    Impute,
    Member,
    NGrams,
    Normalize,
    Rescale,
    feature_cross,
    polynomial_expand,
)
from gradbase.ir.relational import (
    Aggregate,
    Filter,
    Join,
    Limit,
    Project,
    Rebatch,
    Scan,
    Sort,
    SqlFragment,
    Union,
    Values,
)
from gradbase.ir.scalar import (
    And,
    Column,
    Compare,
    IsNull,
    Literal,
    Not,
    Or,
    Parameter,
    PredictCall,
    SqlScalar,
)
from gradbase.ir.shapes import BATCH
from gradbase.ir.tensor import (
    Binary,
    Concat,
    Const,
    Embedding,
    Linear,
    MatMul,
    OneHot,
    Param,
    Reshape,
    Softmax,
    TorchOp,
    Unary,
    UserModule,
)
from gradbase.ir.types import (
    BOOL,
    FLOAT32,
    FLOAT64,
    INT64,
    TEXT,
    Field,
    Schema,
    SqlType,
    array_of,
    list_of,
    struct_of,
)
from gradbase.ir.unlabelled import (
    ClusterQuality,
    Clusters,
    Components,
    Distances,
    Loadings,
    ReconstructionQuality,
    Solve,
)
from gradbase.ir.vocabulary import (
    LabelCode,
    MultiHotCode,
    OneHotCode,
    TermCounts,
    TermWeights,
    Vocabulary,
)

A, B, T = Column("a", INT64), Column("b", FLOAT64), Column("t", TEXT)
ONE, NO, YES = Literal(1, INT64), Literal("no", TEXT), Literal("yes", TEXT)
ODD_NAMES = ('say "hi"', "as", "a b", "ä\n`{}`", "t.a", "", "true", "predict")
LITERALS = (
    ONE,
    Literal(1, SqlType("int32")),
    Literal(1, FLOAT64),
    Literal(True, BOOL),
    Literal(True, INT64),
    Literal(-0.0, FLOAT64),
    Literal(0.0, FLOAT64),
    Literal(1e300, FLOAT64),
    Literal(5e-324, FLOAT32),
    Literal(math.nan, FLOAT64),
    Literal(struct.unpack("<d", b"\x01\x00\x00\x00\x00\x00\xf8\xff")[0], FLOAT64),
    Literal(math.inf, FLOAT64),
    Literal(-math.inf, FLOAT64),
    Literal(None, SqlType("null")),
    Literal(None, TEXT),
    Literal('it\'s `{x}`\n%1 = "y"', TEXT),
    Literal(b"\x00\xff'", SqlType("blob")),
    Literal("2020-01-01", SqlType("date")),
    Literal(-(10**30), SqlType("int128")),
)


def column(name: str, kind: SqlType = INT64) -> Column:
    return Column(name, kind)


def model(name: str = "churn") -> Model:
    x = Concat((ToTensor("a", Numeric(0.5, 2.0, True)), ToTensor("b", Numeric(0.0, 1.0, False))))
    hidden = Unary("relu", Linear(x, Param("ab" * 32, (16, 3)), Param("cd" * 32, (16,))))
    logit = Linear(hidden, Param("ef" * 32, (1, 16)), Const((0.5,), (1,)))
    pair = list_of(struct_of(label=TEXT, prob=FLOAT64))
    outputs = (
        ToTable(logit, "label", TEXT, (NO, YES)),
        ToTable(logit, "proba", FLOAT64, (NO, YES)),
        ToTable(logit, "probs", pair, (NO, YES)),
    )
    features = (Feature("a", INT64), Feature("b", FLOAT64))
    return Model(name, 1, 0, "binary", "churned", features, outputs)


def regression(name: str = "price") -> Model:
    x = ToTensor("a", Numeric(0.5, 2.0, False))
    y = Linear(x, Param("12" * 32, (1, 1)), None)
    out = ToTable(y, "value", FLOAT64, (), 3.5, -1.0)
    return Model(name, 2, 3, "regression", "y", (Feature("a", INT64),), (out,))


SCAN = Scan("t", "", Schema.of(a=INT64, b=FLOAT64, t=TEXT, y=TEXT))
OTHER = Scan('main."My Table"', "u.", Schema((Field("u.a", INT64), Field("u.c d", TEXT))))
CHURN, PRICE = model(), regression()
CALL = PredictCall(CHURN, "proba", (A, SqlScalar(("", " + 1"), (B,), FLOAT64)))

WORDS = column("words", list_of(TEXT))
FEW = Vocabulary(2, ("it's\nso", "no"), (0.5, math.pi, 0.25))
MANY = Vocabulary(3000, blob=Param("ab" * 32, (9000,), "uint8"))
PREPROCESSING = (
    Rescale(A, -1.5, 0.1),
    Rescale(SqlScalar(("ln(", ")"), (B,), FLOAT64), 0.0, 1e-300, True),
    Bucketize(B, (1.0, 2.5), "bucket_ranges"),
    Bucketize(B, ()),
    Impute(B, Literal(0.75, FLOAT64)),
    Impute(T, NO),
    Normalize(column("v", array_of(FLOAT32, 3)), math.inf),
    HashBucket(T, 0),
    NGrams(WORDS, 1, 2, " - "),
    LabelCode(T, FEW),
    OneHotCode(T, MANY, 7),
    MultiHotCode(WORDS, FEW),
    TermCounts(NGrams(WORDS, 1, 2), MANY),
    TermWeights(WORDS, FEW),
    feature_cross(("a", "as", "t x"), (T, T, T), 3),
    polynomial_expand(("a", "b"), (A, B), 2),
    Member(column("s", struct_of(x=INT64)), "x"),
    Analytic("standard_scaler", A),
    Analytic("robust_scaler", Rescale(B, 0.0, 2.0), (5.0, 95.0, True, False)),
    Analytic("imputer", T, ("most_frequent",)),
    Compare("=", LabelCode(T, FEW), ONE),
)

SCALARS = (
    *LITERALS,
    *PREPROCESSING,
    *(column(n) for n in ODD_NAMES),
    Parameter("p1", INT64),
    Parameter("1", TEXT),
    Parameter('odd "name"', TEXT),
    *(Compare(op, A, ONE) for op in ("=", "<>", "<", "<=", ">", ">=")),
    Compare("=", Compare("<", A, ONE), IsNull(B)),
    And((Compare("<", A, ONE), Or((IsNull(A), Not(IsNull(B)))), And((IsNull(A), IsNull(B))))),
    Or((And((IsNull(A), IsNull(B))), Compare(">", B, Literal(1.5, FLOAT64)))),
    Not(And((IsNull(A), IsNull(B)))),
    Not(Not(IsNull(A))),
    IsNull(Not(IsNull(A))),
    SqlScalar(("random()",), (), FLOAT64, True),
    SqlScalar(
        ("struct_pack(a := `", "`, b := {'x': ", "})"),
        (A, SqlScalar(("f(", ")"), (Compare("<", A, ONE),), BOOL)),
        struct_of(a=INT64, b=list_of(array_of(SqlType("decimal", size=(10, 2)), 3))),
    ),
    SqlScalar(("case\n  when ", " then '}' end -- {`"), (A,), SqlType("other", text="GEO <x>")),
    CALL,
    Compare("=", column("list", list_of(INT64)), column("x", struct_of(y=INT64))),
)

DATA = Dataset(SCAN, ("a", "b"), "y", "binary", Split("random", 0.2, 0.0), ("a",), 0, 7)


def fit(trial: int, **changes: object) -> Fit:
    made = Fit(
        DATA, trial, Mlp((64, 32)), Optimizer("adam", 10.0**-trial), 256, 5, True, 0.01, False, 7
    )
    return made.replace(**changes) if changes else made


RELATIONS = (
    SCAN,
    OTHER,
    Values(Schema.of(a=INT64, b=TEXT), (ONE, NO, Literal(None, INT64), YES)),
    SqlFragment(("select * from t\nwhere a > {1} `x`",), (), Schema.of(a=INT64), ("t", "a b")),
    SqlFragment(
        ("select ", " from ", " u, ", " v"),
        (SCAN, OTHER),
        Schema.of(p=FLOAT64),
        (),
        (CALL,),
        (2, 0, 0),
    ),
    Filter(SCAN, And((Compare(">", CALL, Literal(0.5, FLOAT64)), Compare("<", A, ONE)))),
    Filter(SCAN, Literal(None, SqlType("null"))),
    Filter(SCAN, IsNull(column("a", TEXT))),
    Project(SCAN, ("x", "a", "t", "predict"), (A, A, T, CALL)),
    Project(SCAN, (), ()),
    *(Join(SCAN, OTHER, k, Compare("=", A, column("u.a"))) for k in ("inner", "left", "anti")),
    Join(SCAN, OTHER, "cross", None),
    Aggregate(SCAN, ("k",), (A,), ("n",), (SqlScalar(("count(*)",), (), INT64),)),
    Aggregate(SCAN, (), (), ("n",), (SqlScalar(("sum(", ")"), (CALL,), FLOAT64),)),
    Sort(SCAN, (A, Not(IsNull(B))), ("asc nulls last", "desc nulls first")),
    Limit(SCAN, 10),
    Rebatch(SCAN, 16384),
    Limit(SCAN, 0, 5),
    Union((SCAN, SCAN), True),
    Union((Filter(SCAN, IsNull(A)), SCAN, Filter(SCAN, IsNull(B))), False),
    Predict(SCAN, CHURN, ("a", "b"), ("label", "proba"), ("l", "a b"), "dl", 8192),
    Predict(
        Predict(SCAN, PRICE, ("a",), ("value",), ("by",)), CHURN, ("a", "by"), ("label",), ("l",)
    ),
    Evaluate(SCAN, CHURN, ("a", "b"), "y", 0.25, "udf", 2048),
    ScoreCounts(SCAN, CHURN, ("a", "b"), "y", representation="dl", batch_rows=256),
    RocCurve(ScoreCounts(SCAN, CHURN, ("a", "b"), "y"), (0.0, 0.1, 1.0)),
    RocCurve(SqlFragment(("select 1",), (), SCORES)),
    ConfusionMatrix(ClassCounts(SCAN, CHURN, ("a", "b"), "y", 0.25), (NO, YES), ("no", "a b")),
    ConfusionMatrix(SqlFragment(("select 1",), (), COUNTS), (ONE, ONE), ("_1", "_1_1")),
    CompareModels((), Project(Keep(SCAN), ("x", "y"), (CALL, A))),
    CompareModels(
        (Evaluate(Keep(SCAN), CHURN, ("a", "b"), "y"), Evaluate(Keep(SCAN), PRICE, ("a",), "y")),
        Project(Keep(SCAN), ("x", "y"), (CALL, A)),
    ),
    Weights((CHURN,)),
    Weights((PRICE, CHURN), standardize=True, with_trial=True),
    SchemaDrift(
        SCAN,
        CHURN,
        (
            DriftColumn("a", "ok", INT64, INT64, "A", 0.125, -0.0),
            DriftColumn('odd "b"', "missing", list_of(TEXT), mean=math.nan),
            DriftColumn("t", "extra", found=TEXT, name="t"),
        ),
    ),
    Project(SCAN, ("z",), (Rescale(A, 1.0, 2.0),)),
    Preprocess(SCAN, ("z", "code"), (Analytic("min_max_scaler", B), LabelCode(T, FEW))),
    Search("m", tuple(fit(i) for i in range(3)), "roc_auc", "grid"),
    Search("m", (FusedFit((fit(0), fit(2))), fit(1)), "roc_auc", "random", 2, 1),
)

TRANSFORM = (Derived("a", Analytic("standard_scaler", A)), Derived("y", column("y", TEXT)))
PREPARED = DATA.replace(transform=TRANSFORM)

CLUSTERS = Clusters(3, "kmeans++", False, True, 20, True, 0.01, 7)
GROUPS = Model(
    "groups", 1, 1, "clusters", "", (Feature("v", array_of(FLOAT64, 4)),),
    (ToTable(Distances(ToTensor("v", Vector(4)), Param("bb" * 32, (2, 4)), True), "centroid", INT64),),
)  # fmt: skip

BY_GROUP = Model(
    "by_group", 1, 0, "regression", "b", (Feature("a", INT64), Feature("t", TEXT)),
    (ToTable(ByGroup(Param("ff" * 32, (9,), "uint8"), ("t",), 7, 1, "null", 32.0), "value", FLOAT64),),
)  # fmt: skip

TENSORS = (
    *CHURN.outputs,
    Numeric(math.pi, 1e-8, True, "epoch_s"),
    Category(("no", "it's\nso", ""), 4),
    Vector(3),
    MultiHot(("it's", "b"), True),
    Sparse(12),
    PredictJoined(
        SCAN,
        (Numbered(SCAN, "n"),),
        CHURN,
        ("a",),
        ("b",),
        ("t",),
        (CHURN,),
        ("label",),
        ("p",),
        256,
    ),
    Picked(Param("dd" * 32, (4, 2)), (3, 0), 0),
    Looked(
        (ToTensor("n", RowNumber(absent=True)),),
        (Param("table 0", (1, 4)),),
        ToTensor("v", Vector(2)),
        Param("dd" * 32, (4, 2)),
    ),
    Trees(
        ToTensor("v", Vector(4, None, None, "float64")),
        Const((0.0,), (1, 1), "int64"),
        *(Const((0.0, 1.0), (2,), kind) for kind in ("int64", "float64", "int64", "int64", "bool")),
        Const((0.5, 1.0), (2, 1), "float64"),
        1,
        "float64",
    ),
    Opaque(
        Param("cc" * 32, (99,), "uint8"),
        (ToTensor("words", Text()),),
        ("x",),
        "y",
        (-1, 2),
        "float32",
        "StringNormalizer",
        8,
    ),
    Vector(3, Const((0.0, 1.0, 2.0), (3,), "float64"), Param("aa" * 32, (3,), "float64")),
    ToTensor("odd name", Category((), 0)),
    MatMul(ToTensor("v", Vector(4)), Param("bb" * 32, (4, 2))),
    Binary("mul", ToTensor("v", Vector(4)), Const((2.0,), (1,))),
    Softmax(ToTensor("v", Vector(4))),
    OneHot(ToTensor("t", Category(("x", "y"), 3)), 4),
    Embedding(ToTensor("t", Category(("x", "y"), 3)), Param("cc" * 32, (4, 8))),
    Reshape(ToTensor("v", Vector(4)), (BATCH, 2, 2)),
    TorchOp("conv2d.default", (ToTensor("v", Vector(4)),), '[{"$": 0}, "x"]', (BATCH, 4), output=1),
    UserModule(
        "nets:odd",
        '{"k": "it\'s"}',
        "dd" * 32,
        ToTensor("v", Vector(4)),
        2,
        ("a.weight",),
        (Param("ee" * 32, (2, 4)),),
    ),
    Reshape(ToTensor("v", Vector(4)), (BATCH, 4)),
)

LEARNING = (
    CHURN,
    PRICE,
    Feature("x", SqlType("enum")),
    Mlp(()),
    Mlp((8,), "tanh", 0.25),
    Mlp((), intercept=False),
    Autoencoder((8, 2, 8), "tanh", 0.25, l1_reg_activation=0.1),
    WideDeep((8,), "tanh", 0.25, linear_optimizer="adagrad", linear_learn_rate=0.1),
    PythonNetwork("nets:mlp", '{"width": 8}', "ee" * 32),
    Optimizer("sgd", 0.1, 1e-4, 0.9, 0.01),
    Split("custom", 0.2, 0.1, "part"),
    Split("k_fold", 0.0, 0.0, folds=5, fold=2),
    ClassWeight("it's", 0.5),
    DATA,
    DATA.replace(weight="w", class_weights=(ClassWeight("no", 1.0), ClassWeight("yes", 2.0))),
    PREPARED,
    Learn("prepare", PREPARED),
    FitGroups(
        "m",
        DATA.replace(groups=("t",)),
        (fit(0),),
        "roc_auc",
        "grid",
        1,
        20,
        "null",
        False,
        7,
        (1, 9, 40),
    ),
    EvaluateGroups(SCAN, BY_GROUP, ("a", "t"), "b"),
    Solve("groups", DATA, (CLUSTERS, Components(0, 0.9, True)), "davies_bouldin_index"),
    GROUPS,
    ReconstructionQuality(Scan("t", "", Schema.of(v=array_of(FLOAT64, 4))), GROUPS, ("v",), ""),
    ClusterQuality(Scan("t", "", Schema.of(v=array_of(FLOAT64, 4))), GROUPS, ("v",), ""),
    Loadings((GROUPS, GROUPS), with_trial=True),
    CHURN.replace(columns=(Derived("a", Rescale(A, 1.0, 2.0)), Derived("b", B))),
    CHURN.replace(transform=(Derived("a", LabelCode(T, MANY)), Derived("b", LabelCode(T, MANY)))),
    fit(0),
    fit(0, patience=3),
    fit(1, network=PythonNetwork("nets:mlp", "{}")),
    FusedFit((fit(0), fit(1))),
)

ALL = (*SCALARS, *RELATIONS, *TENSORS, *LEARNING)
