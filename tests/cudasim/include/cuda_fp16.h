// What the kernels name of CUDA's own header: the type, and its exact value as float32.
#pragma once

struct __half {
    unsigned short bits;
};

// Float16 numbers are whole multiples of 2^-24, all of them normal as float32; the highest exponent is that of infinities
// and NaNs.
static inline float __half2float(__half half)
{
    const int exponent = half.bits >> 10 & 31, fraction = half.bits & 1023;
    const double sign = half.bits >> 15 ? -1.0 : 1.0;
    if (exponent == 31) return (float)(fraction ? NAN : sign * INFINITY);
    return (float)(sign * (exponent ? std::ldexp(1024.0 + fraction, exponent - 25) : std::ldexp(fraction, -24)));
}
