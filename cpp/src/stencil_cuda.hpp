#pragma once

// The CUDA side of stencils: cuda/stencil.cu, or cuda/stub.cpp without nvcc. Arguments are checked.

#include "stencil_plan.hpp"

namespace mlcore::cuda {

template <class T>
void convolve(const Context& context, const detail::ConvolutionPlan& plan, const T* in,
              const T* weight, const Epilogue<T>& epilogue, T* out);
template <class T>
void weight_gradient(const Context& context, const detail::ConvolutionPlan& plan, const T* in,
                     const T* values, T* out);
template <class T>
void differentiate(const Context& context, const detail::DifferencePlan& plan, const T* in, T* out);

}  // namespace mlcore::cuda
