from restoration.benchmark.command import main

main()
