# Compiles every cpp/src/kernels/<op>.inl once per instruction set.
function(mlcore_add_kernels target)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    set(isas baseline avx2 avx512)
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
    set(isas neon)
  else()
    set(isas baseline)
  endif()
  set(flags_baseline "")
  set(flags_neon "")
  set(flags_avx2 -mavx2 -mfma)
  set(flags_avx512 -mavx512f -mavx512dq -mavx512vl -mavx512bw -mfma -mprefer-vector-width=512)
  # Pair sets are defined by distances rounded after each operation.
  set(flags_of_neighbors -ffp-contract=off)
  # Which voxel holds a point does not depend on the instruction set.
  set(flags_of_voxel_places -ffp-contract=off)
  # Written with explicit multiply-adds: a batch gives the bits of its members.
  set(flags_of_recurrent -ffp-contract=off)
  set(flags_of_dynamics -ffp-contract=off)
  set(flags_of_pair_potential -ffp-contract=off)
  set(flags_of_mlp -ffp-contract=off)
  set(flags_of_splitting -ffp-contract=off)
  file(GLOB kernels CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cpp/src/kernels/*.inl)
  foreach(kernel IN LISTS kernels)
    get_filename_component(op ${kernel} NAME_WE)
    foreach(isa IN LISTS isas)
      set(source ${CMAKE_CURRENT_BINARY_DIR}/kernels/${op}_${isa}.cpp)
      file(CONFIGURE OUTPUT ${source} CONTENT
        "#define MLCORE_ISA ${isa}\n#define MLCORE_ISA_IS_${isa} 1\n#include \"kernels/${op}.inl\"\n" @ONLY)
      set_source_files_properties(${source} PROPERTIES
        COMPILE_OPTIONS "-O3;-fno-math-errno;-fno-trapping-math;${flags_${isa}};${flags_of_${op}}"
        OBJECT_DEPENDS ${kernel})
      target_sources(${target} PRIVATE ${source})
    endforeach()
  endforeach()
endfunction()
