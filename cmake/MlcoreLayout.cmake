# Where things are installed: inside the Python package for a wheel, under the prefix otherwise.
if(building_wheel)
  set(MLCORE_LIBDIR lib)
  set(MLCORE_INCLUDEDIR include)
  # from site-packages/mlcore/lib to site-packages/scipy_openblas32/lib
  set(MLCORE_RPATH "$ORIGIN/../../scipy_openblas32/lib")
else()
  set(MLCORE_LIBDIR ${CMAKE_INSTALL_LIBDIR})
  set(MLCORE_INCLUDEDIR ${CMAKE_INSTALL_INCLUDEDIR})
  set(MLCORE_RPATH "$ORIGIN")
endif()
set(MLCORE_CMAKEDIR ${MLCORE_LIBDIR}/cmake/mlcore)
