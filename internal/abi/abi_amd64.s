//go:build !purego

#include "funcdata.h"
#include "go_asm.h"
#include "textflag.h"

#define ONES(v) VPTERNLOGD $0xFF, v, v, v
#define ONES256(v) VPCMPEQD v, v, v

// func run(fn, arg unsafe.Pointer)
TEXT ·run(SB), 0, $520-16
	NO_LOCAL_POINTERS
	MOVQ fn+0(FP), BX
	MOVQ arg+8(FP), AX
	MOVQ AX, 0(SP)

	// The stack above the argument.
	MOVQ $0x3A3A3A3A3A3A3A3A, AX
	LEAQ 8(SP), DI
	MOVQ $64, CX
	CLD
	REP; STOSQ

	// All registers have something, so that nothing is clear or good unless the function sees to it.
	CMPQ ·state+record_zmm(SB), $0
	JE   ymm
	ONES(Z0); ONES(Z1); ONES(Z2); ONES(Z3); ONES(Z4); ONES(Z5); ONES(Z6); ONES(Z7)
	ONES(Z8); ONES(Z9); ONES(Z10); ONES(Z11); ONES(Z12); ONES(Z13); ONES(Z14); ONES(Z15)
	KXNORW K1, K1, K1
	KXNORW K2, K2, K2
	KXNORW K3, K3, K3
	KXNORW K4, K4, K4
	KXNORW K5, K5, K5
	KXNORW K6, K6, K6
	KXNORW K7, K7, K7
	JMP  filled

ymm:
	ONES256(Y0); ONES256(Y1); ONES256(Y2); ONES256(Y3); ONES256(Y4); ONES256(Y5); ONES256(Y6); ONES256(Y7)
	ONES256(Y8); ONES256(Y9); ONES256(Y10); ONES256(Y11); ONES256(Y12); ONES256(Y13); ONES256(Y14); ONES256(Y15)

filled:
	MOVQ    $-1, AX
	MOVQ    AX, CX
	MOVQ    AX, DX
	MOVQ    AX, SI
	MOVQ    AX, DI
	MOVQ    AX, R8
	MOVQ    AX, R9
	MOVQ    AX, R10
	MOVQ    AX, R11
	MOVQ    AX, R12
	MOVQ    AX, R13
	MOVQ    AX, R14
	MOVQ    AX, R15
	STMXCSR ·state+record_mxcsr(SB)
	MOVQ    SP, ·state+record_sp(SB)
	MOVQ    BP, ·state+record_bp(SB)
	CALL    BX
	MOVQ    SP, ·state+record_spAfter(SB)
	MOVQ    BP, ·state+record_bpAfter(SB)
	MOVQ    ·state+record_sp(SB), SP
	MOVQ    ·state+record_bp(SB), BP
	PUSHFQ
	POPQ    AX
	CLD
	MOVQ    AX, ·state+record_flagsAfter(SB)
	STMXCSR ·state+record_mxcsrAfter(SB)
	LDMXCSR ·state+record_mxcsr(SB)

	LEAQ ·state+record_vectors(SB), AX
	CMPQ ·state+record_zmm(SB), $0
	JE   halves
	VMOVDQU64 Z0, 0(AX)
	VMOVDQU64 Z1, 64(AX)
	VMOVDQU64 Z2, 128(AX)
	VMOVDQU64 Z3, 192(AX)
	VMOVDQU64 Z4, 256(AX)
	VMOVDQU64 Z5, 320(AX)
	VMOVDQU64 Z6, 384(AX)
	VMOVDQU64 Z7, 448(AX)
	VMOVDQU64 Z8, 512(AX)
	VMOVDQU64 Z9, 576(AX)
	VMOVDQU64 Z10, 640(AX)
	VMOVDQU64 Z11, 704(AX)
	VMOVDQU64 Z12, 768(AX)
	VMOVDQU64 Z13, 832(AX)
	VMOVDQU64 Z14, 896(AX)
	VMOVDQU64 Z15, 960(AX)
	JMP  stack

halves:
	VMOVDQU Y0, 0(AX)
	VMOVDQU Y1, 64(AX)
	VMOVDQU Y2, 128(AX)
	VMOVDQU Y3, 192(AX)
	VMOVDQU Y4, 256(AX)
	VMOVDQU Y5, 320(AX)
	VMOVDQU Y6, 384(AX)
	VMOVDQU Y7, 448(AX)
	VMOVDQU Y8, 512(AX)
	VMOVDQU Y9, 576(AX)
	VMOVDQU Y10, 640(AX)
	VMOVDQU Y11, 704(AX)
	VMOVDQU Y12, 768(AX)
	VMOVDQU Y13, 832(AX)
	VMOVDQU Y14, 896(AX)
	VMOVDQU Y15, 960(AX)

stack:
	VZEROUPPER
	LEAQ 8(SP), SI
	LEAQ ·state+record_stack(SB), DI
	MOVQ $64, CX
	REP; MOVSQ
	RET

// func plants() unsafe.Pointer
TEXT ·plants(SB), NOSPLIT, $0-8
	LEAQ table<>(SB), AX
	MOVQ AX, ret+0(FP)
	RET

DATA table<>+0(SB)/8, $good<>(SB)
DATA table<>+8(SB)/8, $sp<>(SB)
DATA table<>+16(SB)/8, $bp<>(SB)
DATA table<>+24(SB)/8, $stack<>(SB)
DATA table<>+32(SB)/8, $mxcsr<>(SB)
DATA table<>+40(SB)/8, $direction<>(SB)
DATA table<>+48(SB)/8, $upper<>(SB)
DATA table<>+56(SB)/8, $upper512<>(SB)
GLOBL table<>(SB), RODATA, $64

// All that a function may do: registers, exception flags, and what lies below the stack.
TEXT good<>(SB), NOSPLIT, $0-8
	MOVQ   a+0(FP), R14
	MOVQ   R14, -8(SP)
	XORQ   R15, R15
	VXORPS Y15, Y15, Y15
	VDIVPS Y15, Y15, Y15
	VZEROUPPER
	RET

// Returns to the right place with another SP.
TEXT sp<>(SB), NOSPLIT, $0-8
	VZEROUPPER
	MOVQ 0(SP), AX
	LEAQ -32(SP), SP
	JMP  AX

TEXT bp<>(SB), NOSPLIT, $0-8
	VZEROUPPER
	INCQ BP
	RET

// Writes beyond its argument.
TEXT stack<>(SB), NOSPLIT, $0-8
	VZEROUPPER
	MOVB $0, 16(SP)
	RET

// Rounds to zero from now on.
TEXT mxcsr<>(SB), NOSPLIT, $0-8
	VZEROUPPER
	STMXCSR -8(SP)
	ORL     $0x6000, -8(SP)
	LDMXCSR -8(SP)
	RET

TEXT direction<>(SB), NOSPLIT, $0-8
	VZEROUPPER
	STD
	RET

TEXT upper<>(SB), NOSPLIT, $0-8
	VXORPS Y1, Y1, Y1
	RET

// The upper halves of the YMM registers are clear, but one of a ZMM register is not.
TEXT upper512<>(SB), NOSPLIT, $0-8
	VZEROUPPER
	VPTERNLOGD $0xFF, Z9, Z9, Z9
	VINSERTI64X4 $0, Y0, Z9, Z9
	RET
