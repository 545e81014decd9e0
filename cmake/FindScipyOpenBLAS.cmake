# LAPACK of the PyPI wheel scipy-openblas32 (symbols with the prefix scipy_).
find_package(Python COMPONENTS Interpreter QUIET)
if(Python_Interpreter_FOUND AND NOT ScipyOpenBLAS_ROOT)
  execute_process(
    COMMAND ${Python_EXECUTABLE} -c "import scipy_openblas32 as b; print(b.get_lib_dir())"
    OUTPUT_VARIABLE libdir OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE status ERROR_QUIET)
  if(status EQUAL 0)
    set(ScipyOpenBLAS_ROOT ${libdir}/..)
  endif()
endif()
find_library(ScipyOpenBLAS_LIBRARY scipy_openblas HINTS ${ScipyOpenBLAS_ROOT}/lib NO_DEFAULT_PATH)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(ScipyOpenBLAS REQUIRED_VARS ScipyOpenBLAS_LIBRARY)
if(ScipyOpenBLAS_FOUND AND NOT TARGET ScipyOpenBLAS::ScipyOpenBLAS)
  add_library(ScipyOpenBLAS::ScipyOpenBLAS SHARED IMPORTED)
  set_target_properties(ScipyOpenBLAS::ScipyOpenBLAS PROPERTIES
    IMPORTED_LOCATION ${ScipyOpenBLAS_LIBRARY}
    INTERFACE_COMPILE_DEFINITIONS MLCORE_LAPACK_PREFIX=scipy_)
endif()
