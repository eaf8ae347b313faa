"""Generated from proto/. DO NOT EDIT!"""
