# SPDX-License-Identifier: Apache-2.0
# ssdops_find_cuda(): the CUDA compiler, and the library ssdops_cuda_kernels; or the
# same files compiled for the CPU, on the emulator of the tests.

option(SSDOPS_CUDA_EMULATOR
       "Run the CUDA kernels on the CPU: for tests of ssdops._native only" OFF)

# The code that every GPU runs: one of a major version runs on all of its later minor
# versions. Newer ones translate the PTX of the last.
set(SSDOPS_CUDA_ARCHITECTURES 75-real 80-real 90-real 100-real 120)

# Looks where people have it: CUDACXX, CUDA_HOME, the path, the usual folder, and the
# wheels of PyPI (nvidia-cuda-nvcc) in the environment of the interpreter. Tells by
# the environment, as check_language() asks for it.
function(ssdops_find_nvcc)
  if(CMAKE_CUDA_COMPILER)
    return()
  endif()
  if(NOT "$ENV{CUDACXX}" STREQUAL "")
    set(nvcc "$ENV{CUDACXX}")
  else()
    cmake_path(GET Python_EXECUTABLE PARENT_PATH python_bin)
    file(GLOB wheels "${python_bin}/../lib/python3*/site-packages/nvidia/*/bin")
    find_program(
      nvcc nvcc
      HINTS "$ENV{CUDA_HOME}/bin" "$ENV{CUDA_PATH}/bin"
      PATHS /usr/local/cuda/bin ${wheels}
      NO_CACHE)
  endif()
  if(NOT nvcc)
    return()
  endif()
  set(ENV{CUDACXX} "${nvcc}")
  # nvcc looks in lib64, the wheels have lib.
  cmake_path(GET nvcc PARENT_PATH nvcc_bin)
  cmake_path(SET nvcc_lib NORMALIZE "${nvcc_bin}/../lib")
  if(EXISTS "${nvcc_lib}/libcudart_static.a")
    set(ENV{CUDAFLAGS} "$ENV{CUDAFLAGS} -L${nvcc_lib}")
  endif()
endfunction()

macro(ssdops_find_cuda)
  ssdops_wanted(CUDA want_cuda)
  if(want_cuda AND SSDOPS_CUDA_EMULATOR)
    set(emulator ${PROJECT_SOURCE_DIR}/tests/support/cuda_emulator)
    add_library(ssdops_cuda_kernels OBJECT ${emulator}/cuda_emulator.cc)
    target_link_libraries(ssdops_cuda_kernels PUBLIC ssdops_flags)
    target_include_directories(ssdops_cuda_kernels SYSTEM PUBLIC ${emulator})
    target_compile_definitions(ssdops_cuda_kernels
                               PUBLIC SSDOPS_WITH_CUDA SSDOPS_CUDA_EMULATOR)
    set(SSDOPS_CUDA_VERSION emulated)
    ssdops_built(CUDA "emulated on the CPU, for tests")
  elseif(want_cuda)
    ssdops_find_nvcc()
    if(NOT CMAKE_CUDA_ARCHITECTURES AND "$ENV{CUDAARCHS}" STREQUAL "")
      set(CMAKE_CUDA_ARCHITECTURES ${SSDOPS_CUDA_ARCHITECTURES})
    endif()
    # Tries it out, so that a compiler that does not work is no error yet.
    check_language(CUDA)
    if(NOT CMAKE_CUDA_COMPILER AND NOT "$ENV{CUDACXX}" STREQUAL "")
      ssdops_skip(CUDA "the CUDA compiler $ENV{CUDACXX} does not work")
    elseif(NOT CMAKE_CUDA_COMPILER)
      ssdops_skip(CUDA "no CUDA compiler (nvcc) was found")
    else()
      enable_language(CUDA)
      # Not of FindCUDAToolkit, which does not find that of the wheels.
      find_library(SSDOPS_CUDART cudart_static
                   HINTS ${CMAKE_CUDA_IMPLICIT_LINK_DIRECTORIES})
      mark_as_advanced(SSDOPS_CUDART)
      if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.0)
        ssdops_skip(CUDA "nvcc ${CMAKE_CUDA_COMPILER_VERSION} is older than 12.0")
      elseif(NOT SSDOPS_CUDART)
        ssdops_skip(CUDA "the static CUDA runtime was not found")
      else()
        ssdops_add_cuda_library()
      endif()
    endif()
  endif()
endmacro()

macro(ssdops_add_cuda_library)
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_EXTENSIONS OFF)
  set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  set(CMAKE_CUDA_FLAGS_RELEASE "-O3 -DNDEBUG")
  add_library(ssdops_cuda_kernels OBJECT)
  target_include_directories(ssdops_cuda_kernels PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/include)
  # No fused multiply-add here either: the bits are those of the CPU.
  target_compile_options(
    ssdops_cuda_kernels
    PRIVATE --fmad=false --expt-relaxed-constexpr -Xcompiler=-ffp-contract=off,-Wall
            $<$<BOOL:${SSDOPS_WERROR}>:-Werror=all-warnings>)
  # The libraries need the headers and the runtime, which stays inside them.
  target_compile_definitions(ssdops_cuda_kernels PUBLIC SSDOPS_WITH_CUDA)
  target_include_directories(ssdops_cuda_kernels SYSTEM
                             PUBLIC ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
  find_package(Threads REQUIRED)
  target_link_libraries(ssdops_cuda_kernels PUBLIC "${SSDOPS_CUDART}" Threads::Threads
                                                   ${CMAKE_DL_LIBS} rt)
  list(JOIN CMAKE_CUDA_ARCHITECTURES " " architectures)
  set(SSDOPS_CUDA_VERSION ${CMAKE_CUDA_COMPILER_VERSION})
  ssdops_built(CUDA "CUDA ${CMAKE_CUDA_COMPILER_VERSION}, for ${architectures}")
endmacro()
