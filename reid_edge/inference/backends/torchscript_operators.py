"""The operators that a TorchScript file may use: arithmetic, layers, lists, strings.

All other operators are refused, those that a later PyTorch brings too: among those of PyTorch are
some that read and write files, send data to other machines, or read memory that is not theirs.
"""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Of the namespace aten; in a file they are called torch.NAME. ``name_`` goes with ``name``.
ATEN = _names(
    """
    Bool Complex ComplexImplicit Delete Float FloatImplicit Int IntImplicit ScalarImplicit Size
    __and__ __contains__ __derive_index __getitem__ __iand__ __interpolate __ior__ __is__ __isnot__
    __ixor__ __lshift__ __not__ __or__ __range_length __round_to_zero_floordiv __rshift__
    __upsample __upsample_bilinear __upsample_nearest __xor__ _adaptive_avg_pool2d
    _adaptive_avg_pool3d _add_relu _batch_norm_impl_index _cast_Byte _cast_Double _cast_Float
    _cast_Half _cast_Int _cast_Long _conj _convolution _convolution_mode _dim_arange
    _fake_quantize_learnable_per_channel_affine _fake_quantize_learnable_per_tensor_affine
    _infer_size _list_to_tensor _log_softmax _make_per_channel_quantized_tensor
    _make_per_tensor_quantized_tensor _native_batch_norm_legit _native_batch_norm_legit_no_training
    _native_multi_head_attention _pack_padded_sequence _pad_circular _pad_enum _pad_packed_sequence
    _prelu_kernel _safe_softmax _scaled_dot_product_attention_math
    _scaled_dot_product_flash_attention_for_cpu _set_item _shape_as_tensor _softmax _stack
    _tensor_to_list _to_copy _transform_bias_rescale_qkv _transformer_encoder_layer_fwd _trilinear
    _unique _unique2 _unsafe_view _unwrap_optional _upsample_bicubic2d_aa _upsample_bilinear2d_aa
    _upsample_lanczos2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d
    _upsample_nearest_exact3d _weight_norm _weight_norm_interface abs absolute acos acosh
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
    adaptive_max_pool2d adaptive_max_pool3d add addbmm addcdiv addcmul addmm addmv addr adjoint
    affine_grid_generator alias all allclose alpha_dropout amax amin aminmax angle any append
    arange arccos arccosh arcsin arcsinh arctan arctan2 arctanh argmax argmin argsort argwhere
    as_strided as_strided_scatter as_tensor asin asinh atan atan2 atanh atleast_1d atleast_2d
    atleast_3d avg_pool1d avg_pool2d avg_pool3d baddbmm bartlett_window batch_norm bernoulli
    bilinear bin binary_cross_entropy binary_cross_entropy_with_logits bincount bitwise_and
    bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor blackman_window
    block_diag bmm broadcast_shapes broadcast_tensors broadcast_to bucketize capitalize
    cartesian_prod cat cauchy cdist ceil celu center chain_matmul chalf channel_shuffle
    cholesky_inverse cholesky_solve chr chunk clamp clamp_max clamp_min clear clip clone coalesce
    col2im column_stack combinations complex concat concatenate conj conj_physical constant_pad_nd
    contiguous conv1d conv2d conv3d conv_depthwise3d conv_transpose1d conv_transpose2d
    conv_transpose3d convolution copy copysign corrcoef cos cosh cosine_embedding_loss
    cosine_similarity count count_nonzero cov cpu cross cross_entropy_loss ctc_loss cuda cummax
    cummin cumprod cumsum cumulative_trapezoid data deg2rad degrees dequantize det detach device
    diag diag_embed diagflat diagonal diagonal_scatter dict diff digamma dim dist div divide divmod
    dot dropout dsplit dstack einsum element_size elu embedding embedding_bag empty empty_like
    empty_quantized empty_strided endswith eq equal erf erfc erfinv exp exp2 expand expand_as
    expandtabs expm1 exponential extend eye fabs factorial fake_quantize_per_channel_affine
    fake_quantize_per_tensor_affine feature_alpha_dropout feature_dropout fill fill_diagonal_ find
    fix flatten flip fliplr flipud float_power floor floor_divide floordiv fmax fmin fmod format
    frac fractional_max_pool2d fractional_max_pool3d frexp frobenius_norm full full_like gamma
    gather gcd ge gelu geometric get get_device glu grad gradient greater greater_equal
    grid_sampler grid_sampler_2d grid_sampler_3d group_norm gru gru_cell gt hamming_window
    hann_window hardshrink hardsigmoid hardswish hardtanh has_torch_function hash heaviside hex
    hinge_embedding_loss histc histogram hsplit hstack huber_loss hypot i0 igamma igammac im2col
    imag index index_add index_copy index_fill index_put index_reduce index_select indices inner
    insert instance_norm int_repr inverse is_autocast_cpu_enabled is_autocast_enabled is_coalesced
    is_complex is_conj is_contiguous is_floating_point is_grad_enabled is_inference is_leaf is_neg
    is_non_overlapping_and_dense is_nonzero is_pinned is_same_size is_scripting is_signed
    is_strides_like_format isalnum isalpha isclose isdecimal isdigit isfinite isidentifier isin
    isinf islower isnan isneginf isnumeric isposinf isprintable isreal isspace istft istitle
    isupper item items join kaiser_window keys kl_div kron kthvalue l1_loss layer_norm lcm ldexp le
    leaky_relu len lerp less less_equal lgamma lift linear linspace list ljust log log10 log1p log2
    log_normal log_sigmoid log_softmax logaddexp logaddexp2 logcumsumexp logdet logical_and
    logical_not logical_or logical_xor logit logspace logsumexp lower lstm lstm_cell lstrip lt
    lu_solve mH mT margin_ranking_loss masked_fill masked_scatter masked_select mathremainder
    matmul matrix_H matrix_exp matrix_power max max_pool1d max_pool1d_with_indices max_pool2d
    max_pool2d_with_indices max_pool3d max_pool3d_with_indices max_unpool2d max_unpool3d maximum
    mean median meshgrid min minimum mish mkldnn_convolution mm mode modf moveaxis movedim mse_loss
    msort mul multi_margin_loss multilabel_margin_loss multinomial multiply mv nan_to_num nanmean
    nanmedian nanquantile nansum narrow native_batch_norm native_channel_shuffle native_dropout
    native_group_norm native_layer_norm ne neg negative new_empty new_empty_strided new_full
    new_ones new_zeros nextafter nll_loss nll_loss2d nll_loss_nd nonzero nonzero_numpy norm
    norm_except_dim normal not_equal nuclear_norm numel numpy_T oct one_hot ones ones_like ord
    outer pad pad_sequence pairwise_distance partition pdist percentFormat permute pin_memory
    pinverse pixel_shuffle pixel_unshuffle poisson poisson_nll_loss polar polygamma pop popitem
    positive pow prelu prod promote_types put q_per_channel_axis q_per_channel_scales
    q_per_channel_zero_points q_scale q_zero_point qscheme quantile quantize_per_channel
    quantize_per_tensor quantize_per_tensor_dynamic quantized_batch_norm quantized_gru
    quantized_lstm quantized_max_pool1d quantized_max_pool2d rad2deg radians rand rand_like randint
    randint_like randn randn_like random randperm range ravel real reciprocal reflection_pad1d
    reflection_pad2d reflection_pad3d relu relu6 remainder remove renorm repeat repeat_interleave
    replace replication_pad1d replication_pad2d replication_pad3d requires_grad reshape reshape_as
    resolve_conj resolve_neg result_type reverse rfind rindex rjust rms_norm rnn_relu rnn_relu_cell
    rnn_tanh rnn_tanh_cell roll rot90 round row_stack rpartition rrelu rrelu_with_noise rsplit
    rsqrt rstrip rsub scalar_tensor scaled_dot_product_attention scatter scatter_add scatter_reduce
    searchsorted select select_scatter selu setdefault sgn sigmoid sign signbit silu sin sinc sinh
    size slice slice_scatter slogdet slow_conv3d smooth_l1_loss soft_margin_loss softmax softplus
    softshrink sort sorted sparse_dim split split_with_sizes splitlines sqrt square squeeze stack
    startswith std std_mean stft storage_offset str stride strip sub subtract sum sum_to_size svd
    swapaxes swapcase swapdims t take take_along_dim tan tanh tensor tensor_split tensordot
    thnn_conv2d threshold tile title to to_mkldnn topk trace transpose trapezoid trapz
    triangular_solve tril tril_indices triplet_margin_loss triu triu_indices true_divide trunc
    type_as unbind unflatten unfold uniform unique_consecutive unique_dim unique_dim_consecutive
    unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze update upper upsample_bicubic2d
    upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d
    upsample_trilinear3d values vander var var_mean vdot view view_as view_as_complex view_as_real
    vsplit vstack warn where xlogy zero zeros zeros_like zfill
    """
)
# Of other namespaces, by namespace; None allows all of them.
OTHERS: dict[str, frozenset[str] | None] = {
    "prim": _names(
        """
    EnumName EnumValue ModuleContainerIndex NumToTensor RaiseException TupleIndex TupleUnpack
    Uninitialized abs data device dtype grad id index is_cpu is_cuda is_maia is_meta is_mkldnn
    is_mps is_mtia is_nested is_quantized is_sparse is_sparse_csr is_vulkan is_xla is_xpu
    isinstance itemsize layout max min name nbytes rangelist requires_grad tolist type
    unchecked_cast unchecked_unwrap_optional unwrap_optional
    """
    ),
    "torchvision": _names(
        "box_iou_rotated deform_conv2d nms ps_roi_align ps_roi_pool roi_align roi_pool"
    ),
    # Layers in int8, and layers with weights packed for XNNPACK and oneDNN.
    "quantized": None,
    "_quantized": None,
    "prepacked": None,
    "mkldnn_prepacked": None,
}
# Classes of PyTorch's own that hold packed weights, by what follows ``__torch__.torch.classes``.
CLASSES = _names(
    """
    quantized.Conv2dPackedParamsBase quantized.Conv3dPackedParamsBase
    quantized.EmbeddingPackedParamsBase quantized.LinearPackedParamsBase
    rnn.CellParamsBase
    xnnpack.Conv2dOpContext xnnpack.LinearOpContext xnnpack.TransposeConv2dOpContext
    mkldnn.ConvOpContext
    """
)
# Names in a pickle, besides those of classes that the file defines.
GLOBALS = _names(
    """
    builtins.complex collections.OrderedDict torch.device torch._utils._rebuild_tensor_v2
    torch._utils._rebuild_qtensor torch._utils._rebuild_parameter torch.jit._pickle.build_intlist
    torch.jit._pickle.build_tensorlist torch.jit._pickle.build_doublelist
    torch.jit._pickle.build_boollist torch.jit._pickle.build_complexlist
    torch.jit._pickle.build_tensor_from_id torch.jit._pickle.restore_type_tag
    torch.per_tensor_affine torch.per_channel_affine torch.per_tensor_symmetric
    torch.per_channel_symmetric torch.per_channel_affine_float_qparams
    torch.FloatStorage torch.DoubleStorage torch.HalfStorage torch.BFloat16Storage
    torch.LongStorage torch.IntStorage torch.ShortStorage torch.CharStorage torch.ByteStorage
    torch.BoolStorage torch.QInt8Storage torch.QUInt8Storage torch.QInt32Storage
    torch.QUInt4x2Storage torch.QUInt2x4Storage torch.ComplexFloatStorage
    torch.ComplexDoubleStorage
    """
)


def is_allowed(namespace: str, name: str) -> bool:
    """Return whether a file may use an operator."""
    if namespace == "aten":
        return name in ATEN or (name.removesuffix("_") in ATEN and not name.endswith("__"))
    names = OTHERS.get(namespace, frozenset())
    return names is None or name in names
