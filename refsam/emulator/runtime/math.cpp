// The elementary functions of MSL, computed in double and rounded once: at most a hair over half an ulp of float, the same on
// every machine and with any libm. Kernels are linked with this as bitcode, so that calls are inlined and vectorised.
// Plain C++; MSL itself has no double.
typedef unsigned int u32;
typedef unsigned long u64;
typedef unsigned __int128 u128;

static const double LN2 = 0x1.62e42fefa39efp-1, LOG2E = 0x1.71547652b82fep0, LOG2_10 = 0x1.a934f0979a371p1;

static inline double from_bits(u64 bits) {
    double x;
    __builtin_memcpy(&x, &bits, 8);
    return x;
}
static inline u64 to_bits(double x) {
    u64 bits;
    __builtin_memcpy(&bits, &x, 8);
    return bits;
}

// 2^x for |x| <= 1000: 2^n by the exponent's bits, the rest by the Taylor series of e^r, |r| <= ln(2)/2: error below 1e-15.
static inline double power_of_two(double x) {
    double n = __builtin_rint(x), r = (x - n) * LN2, p = 1.0 / 39916800;
    p = p * r + 1.0 / 3628800;
    p = p * r + 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    return p * from_bits((u64)((long)n + 1023) << 52);
}

// Beyond +-1000 every float result is 0 or infinity; NaN stays NaN (both comparisons are false).
static inline double bounded(double x) { return x > 1000.0 ? 1000.0 : x < -1000.0 ? -1000.0 : x; }
static inline double keep_nan(double x, double result) { return x != x ? x : result; }
// 2^x for every x. power_of_two gets a number in any case: NaN as an integer is undefined.
static inline double any_power_of_two(double x) { return keep_nan(x, power_of_two(x != x ? 0.0 : bounded(x))); }
static inline double exponential(double x) { return any_power_of_two(x * LOG2E); }

// log2 of a positive normal double: mantissa in [sqrt(1/2), sqrt(2)), log((1+s)/(1-s)) as a series in s, |s| <= 0.1716.
static inline double log_base_two(double x) {
    u64 bits = to_bits(x);
    long exponent = (long)((bits + 0x00095f6200000000ul) >> 52) - 1023;
    double m = from_bits(bits - ((u64)exponent << 52)), s = (m - 1.0) / (m + 1.0), q = s * s, p = 1.0 / 21;
    p = p * q + 1.0 / 19;
    p = p * q + 1.0 / 17;
    p = p * q + 1.0 / 15;
    p = p * q + 1.0 / 13;
    p = p * q + 1.0 / 11;
    p = p * q + 1.0 / 9;
    p = p * q + 1.0 / 7;
    p = p * q + 1.0 / 5;
    p = p * q + 1.0 / 3;
    p = p * q + 1.0;
    return (double)exponent + 2.0 * s * p * LOG2E;
}

static inline float logarithm(float x, double scale) {
    double positive = x > 0.0f && x < __builtin_inff() ? (double)x : 1.0;
    double result = log_base_two(positive) * scale;
    return x > 0.0f ? (x == __builtin_inff() ? x : (float)result) : x == 0.0f ? -__builtin_inff() : __builtin_nanf("");
}

// 2/pi behind the binary point, 64 bits a word: enough for the greatest float.
static const u64 TWO_OVER_PI[4] = {0xa2f9836e4e441529ul, 0xfc2757d1f534ddc0ul, 0xdb6295993c439041ul, 0xfe5163abdebbc561ul};

// x = quadrant * pi/2 + the result, |result| <= pi/4.
static inline double reduce(float x, u32 *quadrant) {
    if (__builtin_fabsf(x) < 1048576.0f) {  // the product with the 31 bits of pi/2 is exact (Cody and Waite, 1980)
        double q = __builtin_rint((double)x * 0x1.45f306dc9c883p-1);
        *quadrant = (u32)(int)q;
        return ((double)x - q * 0x1.921fb544p0) - q * 0x1.0b4611a626331p-34;
    }
    // Payne and Hanek, 1983: x = mantissa * 2^exponent. Bits of 2/pi whose product is a multiple of 4 quadrants are skipped,
    // and of the product with the next 128 everything above 4 quadrants overflows.
    u32 bits;
    __builtin_memcpy(&bits, &x, 4);
    int exponent = (int)(bits >> 23 & 255) - 150, skip = exponent > 2 ? exponent - 2 : 0;
    u64 mantissa = (bits & 0x7fffff) | 0x800000;
    u32 word = (u32)skip / 64, shift = (u32)skip % 64;
    u128 window = (u128)TWO_OVER_PI[word] << 64 | TWO_OVER_PI[word + 1];
    if (shift) window = window << shift | TWO_OVER_PI[word + 2] >> (64 - shift);
    if (exponent < 2) window >>= 2 - exponent;
    u128 product = window * mantissa;  // in units of 2^-126 quadrants
    u32 whole = (u32)((product + ((u128)1 << 125)) >> 126);
    u128 fraction = product << 2;  // signed, in units of 2^-128
    double f = (double)(long)(u64)(fraction >> 64) * 0x1p-64 + (double)(u64)fraction * 0x1p-128;
    *quadrant = bits >> 31 ? 0 - whole : whole;
    return (bits >> 31 ? -f : f) * 0x1.921fb54442d18p0;
}

static inline double sine_series(double r) {
    double q = r * r, p = -1.0 / 1307674368000;
    p = p * q + 1.0 / 6227020800;
    p = p * q - 1.0 / 39916800;
    p = p * q + 1.0 / 362880;
    p = p * q - 1.0 / 5040;
    p = p * q + 1.0 / 120;
    p = p * q - 1.0 / 6;
    return r + r * q * p;
}
static inline double cosine_series(double r) {
    double q = r * r, p = 1.0 / 20922789888000;
    p = p * q - 1.0 / 87178291200;
    p = p * q + 1.0 / 479001600;
    p = p * q - 1.0 / 3628800;
    p = p * q + 1.0 / 40320;
    p = p * q - 1.0 / 720;
    p = p * q + 1.0 / 24;
    return 1.0 - 0.5 * q + q * q * p;
}

// sin(x + turns * pi/2)
static inline double sine(float x, u32 turns) {
    u32 bits;
    __builtin_memcpy(&bits, &x, 4);
    if ((bits >> 23 & 255) == 255) return __builtin_nan("");
    u32 quadrant;
    double r = reduce(x, &quadrant);
    quadrant += turns;
    double result = quadrant & 1 ? cosine_series(r) : sine_series(r);
    return quadrant & 2 ? -result : result;
}

// (e^2x - 1) / (e^2x + 1) loses digits near zero; there the continued fraction of tanh is exact enough.
static inline double hyperbolic_tangent(double x) {
    double q = x * x;
    double near = x / (1 + q / (3 + q / (5 + q / (7 + q / (9 + q / (11 + q / 13))))));
    double t = exponential(2 * x);
    return keep_nan(x, q < 0.25 ? near : q > 400 ? (x > 0 ? 1.0 : -1.0) : (t - 1) / (t + 1));
}

static inline double hyperbolic_sine(double x) {
    double q = x * x, near = x * (1 + q * (1.0 / 6 + q * (1.0 / 120 + q * (1.0 / 5040 + q * (1.0 / 362880 + q / 39916800)))));
    double t = exponential(x);
    return keep_nan(x, q < 0.25 ? near : 0.5 * (t - 1 / t));
}

// atan of |x| <= tan(pi/8) by its series; beyond, the angle is turned by pi/4 or pi/2.
static inline double arctangent(double x) {
    double a = x < 0 ? -x : x, turned = 0;
    if (a > 0x1.3504f333f9de6p1) turned = 0x1.921fb54442d18p0, a = -1 / a;
    else if (a > 0x1.a827999fcef32p-2) turned = 0x1.921fb54442d18p-1, a = (a - 1) / (a + 1);
    double q = a * a, p = 1.0 / 41;
    for (int k = 39; k > 0; k -= 2) p = 1.0 / k - q * p;
    double result = turned + a * p;
    return x < 0 ? -result : result;
}

static inline double arcsine(double x) { return arctangent(x / __builtin_sqrt((1 - x) * (1 + x))); }

static inline double angle(double y, double x) {
    const double pi = 0x1.921fb54442d18p1;
    if (x != x || y != y) return x + y;
    bool left = __builtin_signbit(x), below = __builtin_signbit(y);
    double infinite = __builtin_inf();
    double a = __builtin_fabs(y) == infinite ? (__builtin_fabs(x) == infinite ? pi / 4 : pi / 2)
               : x == 0             ? (y == 0 ? 0 : pi / 2)
                                    : arctangent(__builtin_fabs(y / x));
    double result = left ? pi - a : a;
    return below ? -result : result;
}

// x - n y for the whole n towards zero: the exponents are brought together by halves, each step exact.
static inline double remainder_of(double x, double y) {
    double a = __builtin_fabs(x), b = __builtin_fabs(y);
    if (x != x || y != y || a == __builtin_inf() || b == 0) return __builtin_nan("");
    if (b > a) return x;
    double step = b;
    while (step <= a / 2) step *= 2;
    for (; step >= b; step /= 2)
        if (a >= step) a -= step;
    return __builtin_copysign(a, x);
}

static inline float power(float x, float y) {
    if (y == 0.0f || x == 1.0f) return 1.0f;
    if (x != x || y != y) return x + y;
    double magnitude = x < 0 ? -(double)x : (double)x;
    bool whole = __builtin_truncf(y) == y, odd = whole && __builtin_fabsf(y) < 16777216.0f && ((long)y & 1);
    if (x < 0 && !whole && magnitude != __builtin_inf()) return __builtin_nanf("");
    double result;
    if (magnitude == 0 || magnitude == __builtin_inf() || y == __builtin_inff() || y == -__builtin_inff()) {
        if (magnitude == 1) return 1.0f;
        result = (magnitude > 1) == (y > 0) ? __builtin_inf() : 0.0;
    } else {
        result = power_of_two(bounded((double)y * log_base_two(magnitude)));
    }
    return (float)(x < 0 || (x == 0 && 1 / x < 0) ? (odd ? -result : result) : result);
}

extern "C" {
float __mtl_exp(float x) { return (float)exponential(x); }
float __mtl_exp2(float x) { return (float)any_power_of_two(x); }
float __mtl_exp10(float x) { return (float)any_power_of_two(x * LOG2_10); }
float __mtl_log(float x) { return logarithm(x, LN2); }
float __mtl_log2(float x) { return logarithm(x, 1.0); }
float __mtl_log10(float x) { return logarithm(x, 0x1.34413509f79ffp-2); }
float __mtl_sin(float x) { return (float)sine(x, 0); }
float __mtl_cos(float x) { return (float)sine(x, 1); }
float __mtl_tan(float x) { return (float)(sine(x, 0) / sine(x, 1)); }
float __mtl_tanh(float x) { return (float)hyperbolic_tangent(x); }
float __mtl_sinh(float x) { return (float)hyperbolic_sine(x); }
float __mtl_cosh(float x) { double t = exponential(x); return (float)(0.5 * (t + 1 / t)); }
float __mtl_rsqrt(float x) { return (float)(1.0 / __builtin_sqrt((double)x)); }
float __mtl_pow(float x, float y) { return power(x, y); }
float __mtl_asin(float x) { return (float)arcsine(x); }
float __mtl_acos(float x) { return (float)(x == 1.0f ? 0.0 : 2 * arctangent(__builtin_sqrt((1 - (double)x) / (1 + (double)x)))); }
float __mtl_atan(float x) { return (float)arctangent(x); }
float __mtl_atan2(float y, float x) { return (float)angle(y, x); }
float __mtl_fmod(float x, float y) { return (float)remainder_of(x, y); }
float __mtl_ldexp(float x, int n) {
    int half = (n < -600 ? -600 : n > 600 ? 600 : n) / 2, rest = (n < -600 ? -600 : n > 600 ? 600 : n) - half;
    return (float)((double)x * from_bits((u64)(half + 1023) << 52) * from_bits((u64)(rest + 1023) << 52));
}
}
