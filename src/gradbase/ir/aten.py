"""Which ATen operators a `TorchOp` may name: pure, deterministic, without access to raw memory.

The format of ``TorchOp.arguments`` is JSON, a list of the positional arguments in order:

================================  ==============================================================
element                           stands for
================================  ==============================================================
``null``, bool, number, string    itself (``Infinity`` and ``NaN`` as Python's json writes them)
``[…]``                           a list of elements
``{"$": i}``                      ``inputs_[i]``
``{"B": k}``                      k times the batch size (``null``: once)
``{"dtype": "float32"}``          a dtype
``{"**": {name: element}}``       keyword arguments; only as the last element
================================  ==============================================================

A shape's negative size -k means k times the batch size (`BATCH` is -1): some networks merge the
batch with another dimension for a while.
"""

from __future__ import annotations

_OPERATORS = """_adaptive_avg_pool2d.default _adaptive_avg_pool3d.default _cdist_forward.default
_embedding_bag.default _log_softmax.default _native_batch_norm_legit.no_stats
_native_batch_norm_legit_no_training.default _softmax.default _to_copy.default abs.default
acos.default acosh.default adaptive_avg_pool1d.default adaptive_avg_pool2d.default
adaptive_avg_pool3d.default adaptive_max_pool2d.default add.Scalar add.Tensor addmm.default
all.default all.dim amax.default amin.default any.default any.dim any.dims arange.default
arange.start arange.start_step argmax.default argmin.default argsort.default asin.default
asinh.default atan.default atan2.default atanh.default avg_pool1d.default avg_pool2d.default
avg_pool3d.default baddbmm.default bitwise_and.Scalar bitwise_and.Tensor bitwise_not.default
bitwise_or.Scalar bitwise_or.Tensor bitwise_xor.Scalar bitwise_xor.Tensor bmm.default
broadcast_to.default cat.default ceil.default celu.default chunk.default clamp.Tensor
clamp.default clamp_max.Tensor clamp_max.default clamp_min.Tensor clamp_min.default
col2im.default constant_pad_nd.default conv1d.default conv2d.default conv3d.default
conv_transpose1d.default conv_transpose2d.input conv_transpose3d.input convolution.default
cos.default cosh.default cosine_similarity.default cumprod.default cumsum.default
diagonal.default div.Scalar div.Scalar_mode div.Tensor div.Tensor_mode dot.default
einsum.default elu.default embedding.default eq.Scalar eq.Tensor erf.default erfc.default
erfinv.default exp.default exp2.default expand.default expand_as.default expm1.default
flatten.using_ints flip.default floor.default floor_divide.default fmod.Scalar fmod.Tensor
full.default full_like.default gather.default ge.Scalar ge.Tensor gelu.default glu.default
grid_sampler_2d.default group_norm.default gru.input gt.Scalar gt.Tensor hardsigmoid.default
hardswish.default hardtanh.default im2col.default index.Tensor index_add.default
index_fill.int_Scalar index_put.default index_select.default instance_norm.default
isinf.default isnan.default layer_norm.default le.Scalar le.Tensor leaky_relu.default
lerp.Scalar lerp.Tensor lgamma.default linalg_vector_norm.default linear.default log.default
log10.default log1p.default log2.default log_sigmoid.default log_sigmoid_forward.default
log_softmax.int logical_and.default logical_not.default logical_or.default logical_xor.default
logsumexp.default lstm.input lt.Scalar lt.Tensor masked_fill.Scalar masked_fill.Tensor
matmul.default max.default max.dim max.other max_pool1d.default max_pool2d.default
max_pool2d_with_indices.default max_pool3d.default max_pool3d_with_indices.default
maximum.default mean.default mean.dim min.default min.dim min.other minimum.default
mish.default mm.default movedim.int movedim.intlist mul.Scalar mul.Tensor mv.default
nan_to_num.default native_group_norm.default native_layer_norm.default ne.Scalar ne.Tensor
neg.default norm.ScalarOpt_dim ones.default ones_like.default pad.default permute.default
pixel_shuffle.default pixel_unshuffle.default pow.Scalar pow.Tensor_Scalar pow.Tensor_Tensor
prelu.default prod.default prod.dim_int reciprocal.default reflection_pad1d.default
reflection_pad2d.default reflection_pad3d.default relu.default relu6.default remainder.Scalar
remainder.Tensor repeat.default repeat_interleave.self_int replication_pad1d.default
replication_pad2d.default replication_pad3d.default reshape.default rms_norm.default
rnn_relu.input rnn_tanh.input roll.default round.default rsqrt.default rsub.Scalar rsub.Tensor
scalar_tensor.default scaled_dot_product_attention.default scatter.src scatter.value
scatter_add.default select.int select_scatter.default selu.default sigmoid.default sign.default
silu.default sin.default sinh.default slice.Tensor slice_scatter.default softmax.int
softplus.default sort.default split.Tensor split.sizes split_with_sizes.default sqrt.default
square.default squeeze.default squeeze.dim squeeze.dims stack.default std.correction sub.Scalar
sub.Tensor sum.default sum.dim_IntList swapaxes.default t.default tan.default tanh.default
threshold.default tile.default topk.default transpose.int tril.default triu.default
trunc.default unbind.int unflatten.int unsqueeze.default upsample_bicubic2d.vec
upsample_bilinear2d.default upsample_bilinear2d.vec upsample_linear1d.vec
upsample_nearest1d.vec upsample_nearest2d.default upsample_nearest2d.vec var.correction var.dim
where.Scalar where.ScalarOther where.ScalarSelf where.self xlogy.Tensor zeros.default
zeros_like.default
"""

ALLOWED: frozenset[str] = frozenset(_OPERATORS.split())
"""Names of ``torch.ops.aten`` overloads, as ``TorchOp.target`` writes them."""
