from restoration.app.page import main

main()
