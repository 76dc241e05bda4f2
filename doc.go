// Package lsr is the label-smoothing cross-entropy loss and its gradient with respect to the logits, in one call.
//
// # Convention
//
// The smoothing ε is spread over all K classes: the target is q = (1−ε)·onehot + ε/K, so the true class has 1−ε+ε/K
// (Szegedy et al., Rethinking the Inception Architecture, 2016, section 7; PyTorch, Keras, optax, timm). Where it is spread
// over the K−1 others, convert it with [SmoothingOverOthers].
//
// # Formulas
//
// With logits x of K classes, L = logsumexp(x), p = softmax(x), prior u (Σu = 1; uniform unless given), class weights w (1
// unless given), and an index target y, the loss of a row and its gradient are
//
//	ℓ       = (1−ε)·w_y·(L−x_y) + ε·Σ_k u_k·w_k·(L−x_k)
//	∂ℓ/∂x_j = (1−ε)·w_y·(p_j−δ_jy) + ε·(p_j·Σ_k u_k·w_k − u_j·w_j)
//
// and with a distribution target t, where t′ = (1−ε)·t + ε·u and S = Σ_k t′_k·w_k,
//
//	ℓ       = Σ_k t′_k·w_k·(L−x_k)
//	∂ℓ/∂x_j = p_j·S − t′_j·w_j
//
// A z-loss λ adds λ·L² and 2λ·L·p_j. The mean divides by Σ w_y over the rows not ignored (index targets) or by the number
// of rows (distribution targets); its z-loss term divides by the number of rows not ignored.
//
// # Special values
//
// A NaN, a +Inf, or a row of −Inf makes that row's loss and gradient NaN, and no other's. A logit of −Inf has probability 0;
// its class adds ε·u_k·w_k·∞ to the loss, which is +Inf unless that factor is 0 in the type that rows are computed in, or unless
// [MaskNegInf] takes the class out.
// The gradient stays finite. An ignored row has loss 0 and a gradient of zeros, and its logits are not read.
//
// # Same bits everywhere
//
// A row's loss, log-sum-exp and gradient depend on its logits, its target, the options and K. They do not depend on the
// architecture, the batch around the row, its place in memory, or the number of goroutines. The reduced loss has the same
// bits for every number of workers. Splitting a batch keeps rows, and gradients at a given denominator, to the bit.
//
// # Kernels
//
// On amd64, kernels in assembly serve CPUs with AVX2, FMA and F16C, or with AVX-512 (F, DQ, BW and VL); other machines, and
// builds with the tag purego, run plain Go. All give the same bits, but for those of a NaN. [Kernel], the environment variable
// LSR_KERNEL (go, avx2, avx512) and GODEBUG=cpu.avx2=off or cpu.avx512f=off choose; [Kernels] tells what there is. Kernels for
// a class count of one's own are made by go generate, see README.
//
// # Accuracy
//
// float32 rows are within 6 units in the last place of max(loss, 1), gradients within 8 + 2·|x_j−max x| units of p_j + q_j;
// float64 likewise in its own units. Float16 and BFloat16 are computed in float32 and rounded once, at the store. This holds as
// long as Σ(max x − x_k), which smoothing needs, and what gradients are multiplied by (1/denominator, upstream factors, z-loss) fit the
// type that rows are computed in: beyond that the loss is +Inf, and the gradient infinite or NaN. README has the measured maxima.
package lsr
