from .app import create_app as create_app
from .serve import check_host as check_host
from .serve import free_socket as free_socket
from .serve import serve as serve
