//// double_variable
K { double d = x[t]; x[t] = float(d); }  // ERROR double
//// double_literal_suffix
K { x[t] = float(1.0l); }  // ERROR no long double
//// pointer_without_address_space_kernel
kernel void k(float *x [[buffer(0)]], uint t [[thread_position_in_grid]]) { x[t] = 1; }  // ERROR address space device or constant
//// pointer_without_address_space_helper
static float first(const float *p) { return p[0]; }  // ERROR address space
K { float own[2] = {1, 2}; x[t] = first(own); }
//// reference_without_address_space
static void set(float &v) { v = 1.0f; }  // ERROR address space
K { float v; set(v); x[t] = v; }
//// cast_to_a_pointer_without_address_space
K { float v = x[t]; x[t] = float(*(uint *)&v); }  // ERROR address space
//// reinterpret_cast_without_address_space
K { float4 v = *reinterpret_cast<const float4 *>(x + 4); x[t] = v.y; }  // ERROR address space
//// cast_in_a_template_without_address_space
template <typename T> static T first(device float *p) { return *(T *)p; }  // ERROR address space
K { x[t] = first<float>(x); }
//// returned_pointer_without_address_space
static float *next(thread float *p) { return p + 1; }  // ERROR address space
K { float own[2] = {1, 2}; x[t] = *next(own); }
//// returned_reference_without_address_space
struct P { float v; };
template <typename T> static const T &same(thread const T &v) { return v; }  // ERROR address space
K { P p = {1}; x[t] = same(p).v; }
//// method_that_returns_a_pointer_without_address_space
struct P { device float *v; float *get() const { return v; } };  // ERROR address space
K { P p = {x}; x[t] = *p.get(); }
//// array_of_pointers_without_address_space
K { float *rows[2] = {x, x + 1}; x[t] = rows[t % 2][0]; }  // ERROR address space
//// local_pointer_without_address_space
K { float own[2] = {1, 2}; float *p = own; x[t] = p[1]; }  // ERROR address space
//// device_to_thread
K { thread float *p = x; p[t] = 1; }  // ERROR cannot initialize
//// device_to_threadgroup
K { threadgroup float *p = x; p[t] = 1; }  // ERROR cannot initialize
//// threadgroup_to_device
K { threadgroup float tile[4]; device float *p = tile; p[0] = 1; }  // ERROR cannot initialize
//// write_through_constant
kernel void k(constant float *x [[buffer(0)]], uint t [[thread_position_in_grid]]) { x[t] = 1; }  // ERROR not assignable
//// write_through_const
kernel void k(device const float *x [[buffer(0)]], uint t [[thread_position_in_grid]]) { x[t] = 1; }  // ERROR not assignable
//// recursion
static float fall(float v) { return v < 1.0f ? v : fall(v - 1.0f); }  // ERROR recursion
K { x[t] = fall(x[t]); }
//// mutual_recursion
static float odd(float v);
static float even(float v) { return v < 1.0f ? v : odd(v - 1.0f); }  // ERROR 'even' calls itself
static float odd(float v) { return v < 1.0f ? v : even(v - 1.0f); }
K { x[t] = even(x[t]); }
//// threadgroup_in_helper
static float help(uint t) { threadgroup float tile[4]; tile[t] = 1; return tile[0]; }  // ERROR non-kernel function variable
K { x[t] = help(t); }
//// threadgroup_in_nested_scope
K { if (t < 2) { threadgroup float tile[4]; tile[t] = 1; } x[t] = 1; }  // ERROR outermost scope of a kernel
//// threadgroup_initialised
K { threadgroup float sum = 0; x[t] = sum; }  // ERROR cannot have an initializer
//// threadgroup_33_kb
K { threadgroup float tile[8448]; tile[t] = x[t]; x[t] = tile[t]; }  // ERROR 33792 bytes of threadgroup memory
//// mutable_global
float scale = 2.0f;  // ERROR must reside in constant address space
K { x[t] = scale; }
//// const_global_without_space
const float scale = 2.0f;  // ERROR must reside in constant address space
K { thread const float *p = &scale; x[t] = *p; }
//// static_local
K { static int count = 0; x[t] = float(count++); }  // ERROR must reside in constant address space
//// function_pointer
static float one(float v) { return v; }
K { float (*f)(float) = one; x[t] = f(x[t]); }  // ERROR function
//// virtual_function
struct Base { virtual float get() const { return 1; } };  // ERROR virtual
K { Base b; x[t] = b.get(); }
//// derived_class
struct Base { float v; };
struct Derived : public Base { float w; };  // ERROR derived
K { Derived d; d.v = 1; d.w = 2; x[t] = d.v + d.w; }
//// new_expression
K { thread float *p = new float; x[t] = *p; }  // ERROR 'default new' is not supported
//// throw_expression
K { if (t == 3) throw 1; x[t] = 1; }  // ERROR cannot use 'throw'
//// lambda
K { auto f = [](float v) { return v; }; x[t] = f(x[t]); }  // ERROR lambda
//// goto
K { again: x[t] += 1; if (x[t] < 3) goto again; }  // ERROR goto
//// standard_header
#include <cmath>  // ERROR not found
K { x[t] = 1; }
//// std_namespace
K { x[t] = std::sqrt(x[t]); }  // ERROR std
//// erf
K { x[t] = erf(x[t]); }  // ERROR erf
//// printf
K { printf("%f", x[t]); }  // ERROR printf
//// opencl_builtin
K { x[get_global_id(0)] = 1; }  // ERROR get_global_id
//// opencl_vec_step
K { x[t] = vec_step(float4(1)); }  // ERROR vec_step
//// kernel_that_calls_a_kernel
kernel void inner(device float *x [[buffer(0)]], uint t [[thread_position_in_grid]]) { x[t] = 1; }
kernel void k(device float *x [[buffer(0)]], uint t [[thread_position_in_grid]]) { inner(x, t); }  // ERROR calls kernel 'inner'
//// opencl_vector
K { float4 v = (float4)(1, 2, 3, 4); x[t] = v.y; }  // ERROR OpenCL's way
//// opencl_vector_after_other_brackets
K { float4 v = (float4)(float4)((1 + 2) * 3, 2, 3, 4); x[t] = v.y; }  // ERROR OpenCL's way
//// cast_of_a_float_vector_to_integers
K { int4 v = (int4)float4(x[t]); x[t] = float(v.y); }  // ERROR write the name of the type, int4(v)
//// cast_of_an_integer_vector_to_floats
K { uint2 v = uint2(t); float2 w = (float2)v; x[t] = w.y; }  // ERROR write the name of the type
//// cast_of_a_vector_to_a_type_parameter
template <typename T, typename U> static T converted(U v) { return T(v); }  // ERROR write the name of the type
K { x[t] = float(converted<int4>(float4(x[t])).x); }
//// cast_to_a_vector_of_another_length
K { float2 v = float2(x[t]); half4 w = (half4)v; x[t] = float(w.w); }  // ERROR write the name of the type
//// cast_to_a_vector_of_another_size
K { half4 v = half4(1.0h); float4 w = (float4)v; x[t] = w.x; }  // ERROR write the name of the vector
//// static_cast_of_a_vector
K { float4 v = float4(x[t]); int4 w = static_cast<int4>(v); x[t] = float(w.x); }  // ERROR write the name of the vector
//// line_directive
#line 1 "other.h"  // ERROR #line
static float first(const float *p) { return p[0]; }
K { float own[2] = {1, 2}; x[t] = first(own); }
//// line_marker
K {
    float4 v = float4(x[t]);
  # \
 12 "other.h"  // ERROR #line
    x[t] = any(v < 1.0f);
}
//// line_directive_without_a_number
#line abc  // ERROR #line
K { x[t] = 1; }
//// kernel_that_the_preprocessor_leaves_out
#if 0
kernel void old(device float *x [[buffer(0)]], uint t [[thread_position_in_grid]]) { x[t] = 2; }  // ERROR kernel 'old' is left out
#endif
K { x[t] = 1; }
//// opencl_keyword
static void set(__private float *p) { *p = 1; }  // ERROR __private
K { float v; set(&v); x[t] = v; }
//// clang_builtin
K { x[t] = __builtin_expf(x[t]); }  // ERROR __builtin_expf
//// unknown_attribute
kernel void k(device float *x [[buffer(0)]], uint t [[thread_number]]) { x[t] = 1; }  // ERROR thread_number
//// function_constant
constant int mode [[function_constant(0)]];  // ERROR function_constant
K { x[t] = float(mode); }
//// argument_without_attribute
kernel void k(device float *x [[buffer(0)]], uint t) { x[t] = 1; }  // ERROR no attribute
//// two_of_one_slot
kernel void k(device float *x [[buffer(0)]], device float *y [[buffer(0)]], uint t [[thread_position_in_grid]]) { x[t] = y[t]; }  // ERROR buffer(0)
//// slot_31
kernel void k(device float *x [[buffer(31)]], uint t [[thread_position_in_grid]]) { x[t] = 1; }  // ERROR slots
//// texture
kernel void k(texture2d<float> x [[texture(0)]], uint t [[thread_position_in_grid]]) { }  // ERROR textures cannot be run
//// threadgroup_argument
kernel void k(device float *x [[buffer(0)]], threadgroup float *t [[threadgroup(0)]]) { x[0] = t[0]; }  // ERROR write in the kernel
//// host_name_in_a_macro
template <typename T> kernel void f(device T *x [[buffer(0)]], uint t [[thread_position_in_grid]]) { x[t] = 1; }
#define INSTANCE(T) template [[host_name("k")]] kernel void f<T>(device T *x [[buffer(0)]], uint t [[thread_position_in_grid]]);  // ERROR without macros
INSTANCE(float)
//// error_in_a_kernel_template
template <typename T, int n = 2>
kernel void f(device T *x [[buffer(0)]], uint t [[thread_position_in_grid]]) {
    x[t] = T(n) * oops;  // ERROR oops
}
template [[host_name("k")]] kernel void f<float>(device float *x [[buffer(0)]], uint t [[thread_position_in_grid]]);
//// too_many_template_arguments
template <typename T> kernel void f(device T *x [[buffer(0)]], uint t [[thread_position_in_grid]]) { x[t] = 1; }
template [[host_name("k")]] kernel void f<float, 3>(device float *x, uint t);  // ERROR 1 template parameters; 2 are given
//// instantiation_of_nothing
template [[host_name("k")]] kernel void f<float>(device float *x, uint t);  // ERROR no kernel template
//// bfloat
kernel void k(device bfloat *x [[buffer(0)]], uint t [[thread_position_in_grid]]) { x[t] = 1; }  // ERROR bfloat
//// simdgroup_matrix
#include <metal_simdgroup_matrix>  // ERROR not found
K { x[t] = 1; }
//// copy_from_constant
struct P { float v; };
kernel void k(device float *x [[buffer(0)]], constant P &p [[buffer(1)]]) { P q = p; x[0] = q.v; }  // ERROR no matching constructor
//// vertex_function
vertex float4 v(uint i [[vertex_id]]) { return float4(0); }  // ERROR vertex_id
//// ambiguous_max
K { x[t] = max(x[t], 0); }  // ERROR ambiguous
//// ambiguous_min
K { x[t] = float(min(t, 3)); }  // ERROR ambiguous
//// too_few_components
K { float4 v = float4(float2(1, 2)); x[t] = v.x; }  // ERROR no matching
//// implicit_vector_conversion
K { float4 v = float4(1); int4 w = v; x[t] = float(w.x); }  // ERROR cannot initialize a variable
//// condition_of_vectors
K { float4 v = float4(x[t]); if (v < float4(1)) x[t] = 1; }  // ERROR not contextually convertible to 'bool'
//// vector_to_choose_with
K { float4 v = float4(x[t]); v = v < float4(1) ? v : float4(2); x[t] = v.x; }  // ERROR the condition of ?: has to be one bool
//// bool_vector_from_integers
K { bool2 b = int2(1, 0); x[t] = b.x; }  // ERROR bool2
//// integers_from_a_comparison
K { int2 n = float2(x[t]) < 1.0f; x[t] = n.x; }  // ERROR int2
//// quad_function
K { x[t] = quad_sum(x[t]); }  // ERROR quad functions are not in the emulator
//// simdgroup_matrix_type
K { simdgroup_float8x8 m; x[t] = 1; }  // ERROR SIMD-group matrices are not in the emulator
//// threadgroup_atomic_float
K { threadgroup atomic_float sum[2]; atomic_store_explicit(&sum[t % 2], x[t], memory_order_relaxed); }  // ERROR atomic_float is for device memory
//// threadgroup_atomic_float_in_a_helper
static void add(threadgroup atomic_float *sum, float v) { atomic_fetch_add_explicit(sum, v, memory_order_relaxed); }  // ERROR atomic_float is for device memory
K { x[t] = 1; }
//// threadgroup_atomic_float_in_a_structure
struct P { atomic_float sum; };
K {
    threadgroup P p;
    atomic_fetch_add_explicit(&p.sum, x[t], memory_order_relaxed);  // ERROR atomic_float is for device memory
}
//// atomic_maximum_of_floats
K { device atomic_float *most = (device atomic_float *)x; atomic_fetch_max_explicit(most, 1.0f, memory_order_relaxed); }  // ERROR no maximum
//// matrix_of_numbers
K { float2x2 m = float2x2(1.0f, 2.0f, 3.0f, 4.0f); x[t] = m[1].x; }  // ERROR write columns
//// matrix_of_numbers_as_many_as_columns
K { float2x2 m = float2x2(x[t], 2.0f); x[t] = m[1].x; }  // ERROR write columns
//// long_long
K { long long n = 3; x[t] = float(n); }  // ERROR long long
//// cpp17_if_initialiser
K { if (float v = x[t]; v > 0) x[t] = 1; }  // ERROR C++17
//// cpp17_structured_binding
struct Pair { float a, b; };
K { Pair p = {1, 2}; auto [a, b] = p; x[t] = a + b; }  // ERROR C++17
//// undefined_name
K { x[t] = undefined_name; }  // ERROR undefined_name
//// missing_semicolon
K { x[t] = 1 }  // ERROR expected ';'
//// wrong_type_of_thread_index
kernel void k(device float *x [[buffer(0)]], float t [[thread_position_in_grid]]) { x[0] = t; }  // ERROR cannot be of type
//// inline_assembly
K { asm("nop"); x[t] = 1; }  // ERROR asm
//// built_in_vectors_that_do_not_agree
kernel void k(device float *x [[buffer(0)]], uint2 t [[thread_position_in_grid]], uint3 n [[threads_per_grid]]) { x[t.x] = n.y; }  // ERROR as many components
//// types_of_thread_and_grid_that_do_not_agree
kernel void k(device float *x [[buffer(0)]], uint t [[thread_position_in_grid]], ushort n [[threads_per_grid]]) { x[t] = n; }  // ERROR have to be of one type
//// types_of_position_and_size_in_the_group_that_do_not_agree
kernel void k(device float *x [[buffer(0)]], uint2 t [[thread_position_in_threadgroup]], ushort2 n [[threads_per_threadgroup]]) { x[t.x] = n.x; }  // ERROR have to be of one type
//// short_index_beside_a_uint_position
kernel void k(device float *x [[buffer(0)]], uint2 t [[thread_position_in_threadgroup]], ushort i [[thread_index_in_threadgroup]]) { x[t.x] = i; }  // ERROR has to be uint
//// one_value_by_two_names
kernel void k(device float *x [[buffer(0)]], uint a [[thread_execution_width]], uint b [[threads_per_simdgroup]]) { x[a] = b; }  // ERROR only one of
//// large_private_array
K { float own[20000]; for (uint i = 0; i < 20000; i++) own[i] = x[t]; x[t] = own[t]; }  // ERROR bytes of private variables
//// choice_by_a_vector
K { int4 c = int4(1, 0, 2, 0);
  x[t] = (t ? int4(1) : int4(2)).x;
  x[t] = (c ? int4(1) : int4(2)).x; }  // ERROR the condition of ?: has to be one bool in Metal
//// argument_buffer
struct Arguments { device float *y [[id(0)]]; };  // ERROR argument buffers cannot be run
kernel void k(constant Arguments &a [[buffer(0)]], uint t [[thread_position_in_grid]]) { a.y[t] = 1; }
//// simd_ballot
K { x[t] = float(ulong(simd_ballot(t < 3))); }  // ERROR simd_vote is not in the emulator
//// simd_shuffle_rotate
K { x[t] = simd_shuffle_rotate_down(x[t], 1); }  // ERROR shuffles that rotate or fill
//// simdgroup_matrix
K { simdgroup_matrix<float, 8, 8> m; x[t] = 1; }  // ERROR SIMD-group matrices
//// slot_by_a_name
enum Slot { output = 0 };
kernel void k(device float *x [[buffer(output)]], uint t [[thread_position_in_grid]]) { x[t] = 1; }  // ERROR write no name or macro
//// attribute_of_clang
__attribute__((optnone)) float same(float v) { return v; }  // ERROR the name __attribute__ is not Metal's
K { x[t] = same(x[t]); }
